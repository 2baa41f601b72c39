#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::target::fuzz_target(data));
