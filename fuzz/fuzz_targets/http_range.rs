#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::range::fuzz_range(data));
