//! Sites and their settings from a configuration file, and parts of files, by curl.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tagwire_lab::{Lab, Signal};

use crate::bed::{Bed, content, said, wait_until};
use crate::client::Client;

/// The status that curl sees at `path` of `host`, and the body.
fn curl(bed: &Bed, host: &str, path: &str, more: &[&str]) -> (String, Vec<u8>) {
    let (host, url) = (format!("Host: {host}"), bed.url(path));
    let line = ["curl", "-gsS", "-m", "10", "-w", "%{stderr}%{http_code}", "-H", &host, &url];
    let output = bed.client(&[&line[..], more].concat());
    assert!(output.status.success(), "{path}: {}", said(&output));
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
}

#[test]
pub(crate) fn a_file_names_sites_and_sighup_reads_it_again() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let scratch = bed.lab().scratch().to_owned();
    let other = scratch.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "the other").unwrap();
    fs::write(other.join("none.html"), "nothing here").unwrap();
    let text = format!(
        "[serve]\nlog-level = \"info\"\nport = 8080\n\n[[site]]\nwww-root = \"/nowhere\"\n\n[[site]]\n\
         hosts = [\"other.example\"]\nwww-root = \"{}\"\nerror-pages = {{ 404 = \"none.html\" }}\n\n\
         [[site.headers]]\npath = \"/**\"\nset = {{ Cache-Control = \"no-cache\" }}\n",
        other.display()
    );
    let path = &*bed.configure(&text);
    let checked = bed.command(&["check", path]).stdout_string().unwrap();
    assert!(checked.contains("fine: 2 options, 2 sites"), "{checked}");
    // The command line goes first: another port, and the first site's www-root.
    bed.start(&["--config", path, "--port", "80"]);
    bed.assert_serves();
    let page = curl(&bed, "OTHER.example:80", "/", &[]);
    assert_eq!(page, ("200".to_owned(), b"the other".to_vec()));
    let page = curl(&bed, "other.example", "/missing", &[]);
    assert_eq!(page, ("404".to_owned(), b"nothing here".to_vec()));
    let mut client = Client::connect(&bed);
    client.send(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
    assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));

    // A mistake changes nothing, and says where it is.
    bed.configure(&format!("{text}nonsense = 1\n"));
    bed.appliance().signal(Signal::HUP).unwrap();
    bed.appliance().wait_for_line("not reloaded", Duration::from_secs(10)).unwrap();
    assert!(bed.appliance().log().contains("tagwire.toml: line 16: "), "{}", bed.appliance().log());
    assert_eq!(curl(&bed, "other.example", "/", &[]).1, b"the other");

    // The connection that is there lives on.
    bed.configure(&text.replace("no-cache", "max-age=60"));
    bed.appliance().signal(Signal::HUP).unwrap();
    wait_until("the new sites are served", Duration::from_secs(10), || {
        client.send(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
        client.answer().field("Cache-Control") == Some("max-age=60")
    });
    bed.assert_serves();
    bed.finish();
}

#[test]
pub(crate) fn the_control_socket_has_them_read_again() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let text = format!(
        "[[site]]\nwww-root = \"{}\"\n\n[site.cors]\norigins = [\"https://app.example\"]\n",
        bed.www().display()
    );
    let config = bed.configure(&text);
    bed.start(&["--config", &config]);
    let mut client = Client::connect(&bed);
    let mut allowed = |bed: &Bed| {
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\n\r\n");
        let answer = client.answer();
        bed.assert_serves();
        answer.field("Access-Control-Allow-Origin").map(str::to_owned)
    };
    assert_eq!(allowed(&bed).as_deref(), Some("https://app.example"));
    let control = bed.control();
    let reload = |bed: &Bed| bed.command(&["reload", "--control"]).arg(&control).output().unwrap();

    // A mistake is said to who asks, and changes nothing.
    bed.configure(&format!("{text}credentials = 1\n"));
    let output = reload(&bed);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("tagwire.toml: line 6: invalid type"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(allowed(&bed).as_deref(), Some("https://app.example"));

    // Once it says that it is done, all workers were told.
    bed.configure(&text.replace("[\"https://app.example\"]", "\"*\""));
    let output = reload(&bed);
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"reloaded: 1 sites\n"[..]));
    wait_until("the new sites are served", Duration::from_secs(10), || {
        allowed(&bed).as_deref() == Some("*")
    });
    let fields =
        ["-X", "OPTIONS", "-H", "Origin: null", "-H", "Access-Control-Request-Method: GET"];
    let (status, head) = curl(&bed, "x", "/", &[&fields[..], &["-D", "-"]].concat());
    let head = String::from_utf8(head).unwrap();
    assert!(status == "204" && head.contains("Access-Control-Allow-Methods: GET"), "{head}");
    bed.finish();
}

#[test]
pub(crate) fn downloads_are_resumed() {
    let Some(bed) = Bed::up() else { return };
    let octets = content(7, 3_000_000);
    bed.put("large.bin", &octets);
    let part = bed.lab().scratch().join("part.bin");
    fs::write(&part, &octets[..1_234_567]).unwrap();
    let (status, _) = curl(&bed, "x", "/large.bin", &["-C", "-", "-o", part.to_str().unwrap()]);
    assert_eq!(status, "206");
    assert!(fs::read(&part).unwrap() == octets, "the rest is what was missing");
    let (status, body) = curl(&bed, "x", "/large.bin", &["-r", "-10"]);
    assert_eq!((&*status, &*body), ("206", &octets[octets.len() - 10..]));
    let (status, body) = curl(&bed, "x", "/large.bin", &["-r", "0-0,2999999-"]);
    assert_eq!(status, "206");
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("Content-Range: bytes 2999999-2999999/3000000"), "{text}");
    let (status, _) = curl(&bed, "x", "/large.bin", &["-r", "3000000-"]);
    assert_eq!(status, "416");
    bed.finish();
}

#[test]
pub(crate) fn directories_are_listed() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.put("some files/a&b.txt", b"hello");
    bed.put("some files/.hidden", b"x");
    // Nothing that the appliance may read, and so nothing that it may list.
    let closed = bed.www().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
    bed.start(&["--listing", "auto"]);
    let (status, page) = curl(&bed, "x", "/some%20files/", &[]);
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status, "200");
    assert!(page.contains("<a href=\"a%26b.txt\">a&amp;b.txt</a>") && !page.contains(".hidden"));
    let json = |bed: &Bed| -> serde_json::Value {
        let (status, body) = curl(bed, "x", "/some%20files/", &["-H", "Accept: application/json"]);
        assert_eq!(status, "200");
        serde_json::from_slice(&body).unwrap()
    };
    let listed = json(&bed);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["name"], &listed[0]["size"]), (&"a&b.txt".into(), &5.into()));
    assert_eq!((&listed[0]["type"], listed[0]["mtime"].is_string()), (&"file".into(), true));
    assert_eq!(curl(&bed, "x", "/some%20files/a%26b.txt", &[]).1, b"hello");
    assert_eq!(curl(&bed, "x", "/closed/", &[]).0, "403");
    bed.put("some files/new", b"");
    wait_until("the new name is listed", Duration::from_secs(10), || {
        json(&bed)[1]["name"] == "new"
    });
    bed.assert_serves();
    bed.finish();
}
