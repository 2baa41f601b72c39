#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::conn::fuzz_connection(data));
