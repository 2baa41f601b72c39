//! What Prometheus reads, by its own parser, and what it counts.

use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use crate::admin::{self, ADMIN, curl, metric};
use crate::client::Client;
use crate::clients::PYTHON;

/// Reads all of it strictly, as Prometheus does, and prints each family with its type and its samples.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.name, family.type, len(family.samples), family.unit or '-')
";

#[test]
fn prometheus_own_parser_takes_it() {
    let Some(mut bed) = admin::bed() else { return };
    bed.start(&["--admin", ADMIN, "--workers", "2"]);
    bed.assert_serves();
    let text = curl(&bed, &[], "/metrics").stdout;
    let mut parser = Command::new(PYTHON)
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(&text).unwrap();
    let output = parser.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&text));
    let families = String::from_utf8(output.stdout).unwrap();
    for family in [
        "tagwire_link_changes counter 7 -",
        "tagwire_link_mtu_bytes gauge 1 bytes",
        "tagwire_http_answers counter 4 -",
        "tagwire_driver_rx_frames counter 2 -",
        "tagwire_uptime_seconds gauge 1 seconds",
    ] {
        assert!(families.lines().any(|line| line == family), "no {family} in\n{families}");
    }
    // All that it knows of has a type.
    assert!(!families.contains(" unknown "), "{families}");
    bed.finish();
}

#[test]
fn answers_are_counted_by_their_class() {
    let Some(mut bed) = admin::bed() else { return };
    bed.start(&["--admin", ADMIN, "--workers", "2"]);
    let counts = |bed: &crate::bed::Bed| {
        ["2xx", "3xx", "4xx", "5xx"].map(|class| {
            metric(bed, &format!("tagwire_http_answers_total{{class=\"{class}\"}}")) as u64
        })
    };
    assert_eq!(counts(&bed), [0; 4]);
    let mut client = Client::connect(&bed);
    let etag = client.get("/").field("ETag").unwrap().to_owned();
    assert_eq!(client.get("/missing").status, 404);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n").as_bytes());
    assert_eq!(client.answer().status, 304);
    assert_eq!(client.get("/").status, 200);
    client.send(b"nonsense\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let mut newer = Client::connect(&bed);
    newer.send(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(newer.answer().status, 501);
    assert_eq!(counts(&bed), [2, 1, 2, 1]);
    let http = &bed.status()["http"];
    assert_eq!((&http["answers_2xx"], &http["answers_5xx"]), (&2.into(), &1.into()));
    bed.finish();
}
