//! Connections: whether they stay, and what is said on them without waiting (RFC 9112 9).

use crate::case::{Case, Shape, with};

use Shape::{Framed, HeadOnly};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "close",
        "Close",
        "CLOSE",
        "keep-alive",
        "Keep-Alive",
        "close, keep-alive",
        "keep-alive, close",
        "close,",
        ", close",
        "x, close",
        "closed",
        "x",
        "",
        "\"close\"",
        "close;x",
        "TE, close",
    ] {
        for version in ["1.1", "1.0"] {
            let request = format!(
                "GET /letters HTTP/{version}\r\nHost: tagwire\r\nConnection: {value}\r\n\r\n"
            );
            cases.push(Case::new(format!("connection {value} in {version}"), request));
        }
    }
    for (name, lines) in [
        (
            "connection close and keep-alive in two lines",
            "Connection: close\r\nConnection: keep-alive\r\n",
        ),
        (
            "connection keep-alive and close in two lines",
            "Connection: keep-alive\r\nConnection: close\r\n",
        ),
        ("proxy-connection close", "Proxy-Connection: close\r\n"),
        ("keep-alive timeout", "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=1\r\n"),
        ("connection names a field", "Connection: Range\r\nRange: bytes=0-4\r\n"),
    ] {
        cases.push(Case::new(name, with(lines)));
    }
    for method in ["HEAD", "POST", "BREW", "OPTIONS"] {
        let request =
            format!("{method} /letters HTTP/1.1\r\nHost: tagwire\r\nConnection: close\r\n\r\n");
        cases.push(Case::new(format!("connection close of {method}"), request));
        let request = format!("{method} /letters HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        cases.push(Case::new(format!("connection keep-alive of {method} in 1.0"), request));
    }
    for target in ["/missing", "/sub", "/bare/", "/%00", "/empty", "/big"] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: tagwire\r\nConnection: close\r\n\r\n");
        cases.push(Case::new(format!("connection close for {target}"), request));
        let request = format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        cases.push(Case::new(format!("connection keep-alive for {target} in 1.0"), request));
    }
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: tagwire\r\n\r\n");
    let head = |target: &str| format!("HEAD {target} HTTP/1.1\r\nHost: tagwire\r\n\r\n");
    cases.extend([
        Case::new("pipeline of two", get("/letters") + &get("/plain.txt")).answered(&[Framed; 2]),
        Case::new("pipeline of fifty", get("/letters").repeat(50)).answered(&[Framed; 50]),
        Case::new(
            "pipeline of heads and bodies",
            head("/big") + &get("/letters") + &head("/missing") + &get("/missing") + &get("/sub/"),
        )
        .answered(&[HeadOnly, Framed, HeadOnly, Framed, Framed]),
        Case::new("pipeline of large ones", get("/big").repeat(3)).answered(&[Framed; 3]),
        Case::new("pipeline behind a 404", get("/missing") + &get("/letters"))
            .answered(&[Framed; 2]),
        Case::new("pipeline behind a 301", get("/sub") + &get("/letters")).answered(&[Framed; 2]),
        Case::new("pipeline behind a 304", with("If-None-Match: *\r\n") + &get("/letters"))
            .answered(&[Framed; 2]),
        Case::new(
            "pipeline behind a 405",
            "POST / HTTP/1.1\r\nHost: tagwire\r\n\r\n".to_owned() + &get("/letters"),
        )
        .answered(&[Framed; 2]),
        Case::new("pipeline behind a 416", with("Range: bytes=99-\r\n") + &get("/letters"))
            .answered(&[Framed; 2]),
        Case::new("pipeline behind a 400", "GET / HTTP/1.1\r\n\r\n".to_owned() + &get("/letters")),
        Case::new(
            "pipeline behind a broken head",
            "GET / HTTP/1.1\r\nA b\r\n\r\n".to_owned() + &get("/letters"),
        ),
        Case::new("pipeline behind close", with("Connection: close\r\n") + &get("/letters")),
        Case::new(
            "pipeline behind HTTP/1.0",
            "GET /letters HTTP/1.0\r\n\r\n".to_owned() + &get("/letters"),
        ),
        Case::new(
            "pipeline behind HTTP/1.0 that is kept",
            "GET /letters HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned() + &get("/letters"),
        )
        .answered(&[Framed; 2]),
        Case::new(
            "pipeline with empty lines between",
            get("/letters") + "\r\n\r\n" + &get("/letters"),
        )
        .answered(&[Framed; 2]),
        Case::new("pipeline with a bare CR between", get("/letters") + "\r" + &get("/letters"))
            .answered(&[Framed; 2]),
        Case::new("pipeline with garbage between", get("/letters") + "xyz" + &get("/letters"))
            .answered(&[Framed; 2]),
        Case::new("pipeline with half a request behind", get("/letters") + "GET /let"),
        Case::new("pipeline of two versions", get("/letters") + "GET /letters HTTP/1.0\r\n\r\n")
            .answered(&[Framed; 2]),
        Case::new("request in two parts", get("/letters"))
            .then(get("/plain.txt"))
            .answered(&[Framed; 2]),
    ]);
    cases
}
