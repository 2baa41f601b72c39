#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::encoding::fuzz_accept_encoding(data));
