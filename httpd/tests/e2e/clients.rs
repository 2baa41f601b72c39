//! Clients that people use: curl, wget, Python's two, and a browser.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tagwire_lab::Lab;

use crate::bed::{Bed, content, said, wait_until};

const MIB: usize = 1 << 20;
/// Debian's, which finds Debian's packages, whatever other ones are before it on the PATH.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Files of many sizes, below `many/`.
fn put_many(bed: &Bed, count: usize) -> Vec<Vec<u8>> {
    let file = |n: usize| {
        let octets = content(n as u64, n * 997 % 50_000);
        bed.put(&format!("many/{n}.bin"), &octets);
        octets
    };
    (0..count).map(file).collect()
}

/// A folder of the lab that is empty.
fn folder(bed: &Bed, name: &str) -> std::path::PathBuf {
    let path = bed.lab().scratch().join(name);
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn curl_downloads_many_files_in_parallel() {
    let Some(bed) = Bed::up() else { return };
    let files = put_many(&bed, 300);
    let to = folder(&bed, "got");
    let url = bed.url("/many/[0-299].bin");
    let curl = ["curl", "-sS", "-m", "60", "--fail", "--parallel", "--parallel-max", "30"];
    let curl =
        [&curl[..], &["--remote-name-all", "--output-dir", to.to_str().unwrap(), &url]].concat();
    bed.client_ok(&curl);
    for (n, octets) in files.iter().enumerate() {
        assert!(fs::read(to.join(format!("{n}.bin"))).unwrap() == *octets, "{n}.bin");
    }
    bed.finish();
}

/// wget in a folder, with what it said.
fn wget(bed: &Bed, folder: &Path, args: &[&str]) -> String {
    let line = ["wget", "-nv", "--server-response", "--tries=1", "--timeout=20", "-P"];
    let line = [&line[..], &[folder.to_str().unwrap()], args].concat();
    let output = bed.client(&line);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wget_resumes_a_download() {
    let Some(bed) = Bed::up() else { return };
    let file = content(5, 5 * MIB);
    bed.put("five.bin", &file);
    let to = folder(&bed, "got");
    fs::write(to.join("five.bin"), &file[..2 * MIB + 7]).unwrap();
    let url = bed.url("/five.bin");
    let heard = wget(&bed, &to, &["-c", &url]);
    assert!(heard.contains("206 Partial Content"), "{heard}");
    assert!(fs::read(to.join("five.bin")).unwrap() == file);
    // There is nothing left to resume.
    let heard = wget(&bed, &to, &["-c", &url]);
    assert!(heard.contains("416 Range Not Satisfiable"), "{heard}");
    assert!(fs::read(to.join("five.bin")).unwrap() == file);
    bed.finish();
}

#[test]
fn wget_mirrors_a_tree_and_then_only_what_has_changed() {
    let Some(bed) = Bed::up() else { return };
    let page = |links: &[&str]| {
        let links = links.iter().map(|it| format!("<a href=\"{it}\">{it}</a>\n"));
        format!("<!doctype html>\n<title>tree</title>\n{}", links.collect::<String>())
    };
    let files = [
        ("tree/index.html", page(&["one/", "a%20b.txt", "c.txt?x=1#f"]).into_bytes()),
        ("tree/one/index.html", page(&["../two/", "deep/d.bin"]).into_bytes()),
        ("tree/one/deep/d.bin", content(6, 100_000)),
        ("tree/two/index.html", page(&["../../outside.txt", "e.txt"]).into_bytes()),
        ("tree/two/e.txt", b"e\n".to_vec()),
        ("tree/a b.txt", b"a b\n".to_vec()),
        ("tree/c.txt", b"c\n".to_vec()),
    ];
    let modified = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
    let date = |path: &Path, days: u64| {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(modified(days)).unwrap();
    };
    for (day, (name, octets)) in files.iter().enumerate() {
        bed.put(name, octets);
        date(&bed.www().join(name), 10_000 + day as u64);
    }
    let to = folder(&bed, "got");
    // After a 304 wget does not look for links in the page that it has: it is to ask by HEAD.
    let (url, mirror) =
        (bed.url("/tree/"), ["-r", "-np", "-nH", "-N", "--no-if-modified-since", "-l", "inf"]);
    let mirror = [&mirror[..], &[&url]].concat();
    let heard = wget(&bed, &to, &mirror);
    // What it says of each file that it has fetched.
    let fetched = |heard: &str| heard.matches(" -> \"").count();
    assert_eq!(fetched(&heard), files.len(), "{heard}");
    // A query is part of the name that wget gives to a file.
    let local = |name: &str| to.join(name.replace("c.txt", "c.txt?x=1"));
    for (day, (name, octets)) in files.iter().enumerate() {
        let got = fs::read(local(name)).unwrap_or_default();
        assert!(got == *octets, "{name}: {heard}");
        let time = fs::metadata(local(name)).unwrap().modified().unwrap();
        assert_eq!(time, modified(10_000 + day as u64), "{name}");
    }
    assert!(!to.join("outside.txt").exists());

    let heard = wget(&bed, &to, &mirror);
    assert_eq!(fetched(&heard), 0, "{heard}");

    bed.put("tree/two/e.txt", b"changed\n");
    date(&bed.www().join("tree/two/e.txt"), 20_000);
    wait_until("the change is served", Duration::from_secs(5), || {
        bed.client(&["curl", "-gsS", &bed.url("/tree/two/e.txt")]).stdout == b"changed\n"
    });
    let heard = wget(&bed, &to, &mirror);
    assert_eq!(fetched(&heard), 1, "{heard}");
    assert_eq!(fs::read(to.join("tree/two/e.txt")).unwrap(), b"changed\n");
    bed.finish();
}

/// Runs a script of this folder in the client's namespace; it ends with an error where something
/// is not as it should be.
fn python(bed: &Bed, script: &str, args: &[&str]) -> String {
    let path = bed.lab().scratch().join("script.py");
    fs::write(&path, script).unwrap();
    bed.client_ok(&[&[PYTHON, path.to_str().unwrap()], args].concat())
}

#[test]
fn pythons_clients_keep_connections_stream_and_revalidate() {
    let Some(bed) = Bed::up() else { return };
    put_many(&bed, 50);
    bed.put("large.bin", &content(7, 20 * MIB));
    bed.put("folder/index.html", b"index");
    let www = bed.www();
    python(&bed, include_str!("clients.py"), &[bed.host(), www.to_str().unwrap()]);
    // One by http.client, one by a session of requests, each for all of its requests.
    assert_eq!(bed.counted("tcp_accepted"), 2);
    bed.finish();
}

/// A PCM sound of so many seconds: 44,100 Hz, two channels, 16 bits.
fn wav(seconds: u32) -> Vec<u8> {
    const RATE: u32 = 44_100;
    let data = RATE * 4 * seconds;
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(data + 36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    for word in [16, 0x2_0001, RATE, RATE * 4, 0x10_0004] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data.to_le_bytes());
    // A triangle of 100 Hz, the same on both channels.
    for sample in 0..data / 4 {
        let level = (sample % 441) as i16 * 40;
        file.extend_from_slice(&[level.to_le_bytes(), level.to_le_bytes()].concat());
    }
    file
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>page</title>
<link rel="icon" href="assets/icon.svg">
<link rel="stylesheet" href="assets/style.css">
<script src="assets/script.js" defer></script></head>
<body><p id="text">not yet</p><img id="image" src="assets/image.svg" alt="">
<video id="video" src="sound.wav" preload="metadata" muted></video></body></html>
"#;
const SVG: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="37" height="21"/>"#;
const SCRIPT: &str = "document.getElementById('text').textContent = 'written by the script';\n";
/// The files that a browser must load for [`PAGE`], and revalidate with it.
const ASSETS: [&str; 4] =
    ["/page.html", "/assets/style.css", "/assets/script.js", "/assets/image.svg"];

/// What a browser has seen at `url`.
///
/// Headless Chromium stops now and then on a reload, one time in fifty on a busy machine, with the answer to each of
/// its requests in its hands (304, the rest is in its cache), or crashes, which it does beside nginx too: that says
/// nothing about us, and is tried again. A request without an answer is none of these.
fn browse(bed: &Bed, browser: &str, url: &str) -> String {
    const AGAIN: i32 = 75;
    let script = bed.lab().scratch().join("browser.py");
    fs::write(&script, include_str!("browser.py")).unwrap();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let profile = folder(bed, &format!("profile-{attempt}"));
        let line = [PYTHON, script.to_str().unwrap(), browser, profile.to_str().unwrap(), url];
        let output = bed.client(&line);
        if output.status.code() != Some(AGAIN) || attempt == 3 {
            assert!(output.status.success(), "{}", said(&output));
            return String::from_utf8(output.stdout).unwrap();
        }
        eprintln!("the browser is tried again: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_browser_shows_a_page_seeks_in_a_sound_and_revalidates() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let browser = "chromium-headless-shell";
    tagwire_lab::require_tools(&[browser]).unwrap();
    let sound = wav(120);
    bed.put("page.html", PAGE.as_bytes());
    bed.put("assets/style.css", b"#text { color: rgb(1, 2, 3) }\n");
    bed.put("assets/script.js", SCRIPT.as_bytes());
    bed.put("assets/image.svg", SVG.as_bytes());
    bed.put("assets/icon.svg", SVG.as_bytes());
    bed.put("sound.wav", &sound);
    // So that a reload asks for each of them again, whatever a browser thinks of its age.
    let text = format!(
        "[[site]]\nwww-root = \"{}\"\n[[site.headers]]\npath = \"/**\"\n\
         set = {{ Cache-Control = \"no-cache\" }}\n",
        bed.www().display()
    );
    let config = bed.configure(&text);
    let command = bed
        .command(&["serve", "--config", &config, "--interface", "macvlan0"])
        .args(["--vlan", &bed.lab().vlan().unwrap().to_string()])
        .args(["--address", "192.168.123.150/24", "--control", bed.control().to_str().unwrap()]);
    bed.start_with(command);

    let text = browse(&bed, browser, &bed.url("/page.html"));
    let seen: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let page = &seen["page"];
    assert_eq!(page["text"], "written by the script", "{seen:#}");
    assert_eq!(page["color"], "rgb(1, 2, 3)", "{seen:#}");
    assert_eq!((&page["width"], &page["height"]), (&37.into(), &21.into()), "{seen:#}");

    // The sound: its length, playing, and a place that was not loaded before.
    let video = &seen["video"];
    assert_eq!(video["duration"], 120.0, "{seen:#}");
    assert!(video["played"].as_f64() > Some(0.0), "{seen:#}");
    assert_eq!(video["sought"], 110.0, "{seen:#}");
    let ranges = seen["ranges"].as_array().unwrap();
    let starts = ranges.iter().map(|it| {
        let asked = it["range"].as_str().and_then(|it| it.strip_prefix("bytes=")).unwrap();
        let (start, end) = asked.split_once('-').unwrap();
        let end = end.parse().unwrap_or(sound.len() - 1);
        let whole = format!("bytes {start}-{end}/{}", sound.len());
        match it["status"].as_u64() {
            Some(206) => assert_eq!(it["content_range"], *whole, "{seen:#}"),
            // It had that part already, and was only to ask.
            status => assert_eq!(status, Some(304), "{seen:#}"),
        }
        start.parse().unwrap()
    });
    let starts: Vec<usize> = starts.collect();
    assert!(starts.contains(&0), "{seen:#}");
    assert!(starts.iter().any(|start| *start > sound.len() / 2), "{seen:#}");

    for path in ASSETS {
        assert_eq!(seen["first"][path], 200, "{path}: {seen:#}");
        assert_eq!(seen["again"][path], 304, "{path}: {seen:#}");
    }
    assert_eq!(seen["shown_again"], "written by the script", "{seen:#}");
    bed.finish();
}
