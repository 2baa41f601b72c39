//! Every file of the fuzz corpora, without a fuzzer.

#[path = "../../fuzz/replay.rs"]
mod replay;

use std::fs;
use std::path::Path;

use replay::replay;

#[test]
fn every_target_is_run_described_and_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let read = |place: &str| fs::read_to_string(fuzz.join(place)).unwrap();
    // A name that others begin with is told from them by what is around it.
    let words = |text: String| -> Vec<String> {
        let inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        text.split(|letter| !inside(letter)).map(str::to_owned).collect()
    };
    let places = ["run", "README.md", "Cargo.toml"].map(|place| (place, words(read(place))));
    let replayed = words(read("../httpd/tests/corpus.rs") + &read("../netstack/tests/corpus.rs"));
    let mut targets = 0;
    for file in fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
        let path = file.unwrap().path();
        let target = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for (place, words) in &places {
            assert!(words.contains(&target), "{target} is missing in fuzz/{place}");
        }
        assert!(replayed.contains(&target), "the corpus of {target} is not replayed");
        targets += 1;
    }
    assert!(targets > 0);
}

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
fn http_accept() {
    replay("http_accept", tagwire::accept::fuzz_accept);
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
fn access_log() {
    replay("access_log", tagwire::access_log::fuzz_access_log);
}

#[test]
fn config_file() {
    replay("config_file", tagwire::file::fuzz_file);
}
