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

#[test]
fn http_range() {
    replay("http_range", tagwire::range::fuzz_range);
}

#[test]
fn http_accept_encoding() {
    replay("http_accept_encoding", tagwire::encoding::fuzz_accept_encoding);
}

#[test]
fn http_conditional() {
    replay("http_conditional", tagwire::conditional::fuzz_conditional);
}

#[test]
fn http_chunked() {
    replay("http_chunked", tagwire::chunked::fuzz_chunked);
}

#[test]
fn http_connection() {
    replay("http_connection", tagwire::conn::fuzz_connection);
}

#[test]
fn config_file() {
    replay("config_file", tagwire::file::fuzz_file);
}
