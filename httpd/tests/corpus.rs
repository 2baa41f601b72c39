//! Every file of the fuzz corpora, without a fuzzer.

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn http_head() {
    replay("http_head", tagwire::request::fuzz_request_head);
}

#[test]
fn http_target() {
    replay("http_target", tagwire::target::fuzz_target);
}
