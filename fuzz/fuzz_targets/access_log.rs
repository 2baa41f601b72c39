#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::access_log::fuzz_access_log(data));
