#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::conditional::fuzz_conditional(data));
