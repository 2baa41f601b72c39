#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::request::fuzz_request_head(data));
