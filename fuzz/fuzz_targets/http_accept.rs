#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::accept::fuzz_accept(data));
