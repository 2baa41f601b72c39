#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::chunked::fuzz_chunked(data));
