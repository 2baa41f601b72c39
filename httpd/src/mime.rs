//! Content-Type by a file's name.

/// What follows the last dot of the file's name; empty without one.
pub fn extension(path: &[u8]) -> &str {
    let name = path.rsplit(|&octet| octet == b'/').next().unwrap_or(path);
    let extension = name.iter().rposition(|&octet| octet == b'.').map(|dot| &name[dot + 1..]);
    extension.and_then(|octets| std::str::from_utf8(octets).ok()).unwrap_or("")
}

/// Types that were registered, or replaced, since the table of `mime_guess` was made.
const NEWER: [(&str, &str); 10] = [
    ("m3u8", "application/vnd.apple.mpegurl"), // RFC 8216
    ("map", "application/json"),               // ECMA-426
    ("mjs", "text/javascript"),                // RFC 9239
    ("otf", "font/otf"),                       // RFC 8081
    ("tgz", "application/gzip"),               // RFC 6713
    ("toml", "application/toml"),
    ("ts", "video/mp2t"), // RFC 3555
    ("woff", "font/woff"),
    ("yaml", "application/yaml"), // RFC 9512
    ("yml", "application/yaml"),
];

/// The media type for the file at `path`; text types say that they are UTF-8, which is what
/// files of today are. Unknown extensions are `application/octet-stream`.
pub fn content_type(path: &[u8]) -> String {
    let extension = extension(path);
    let newer = NEWER.iter().find(|(it, _)| it.eq_ignore_ascii_case(extension));
    let known = newer.map(|(_, essence)| *essence);
    let known = known.or_else(|| mime_guess::from_ext(extension).first_raw());
    let essence = known.unwrap_or("application/octet-stream");
    // JSON is UTF-8 by definition (RFC 8259 8.1) and defines no charset parameter.
    let text = essence.starts_with("text/")
        || matches!(essence, "application/javascript" | "application/xml" | "image/svg+xml");
    if text { format!("{essence}; charset=utf-8") } else { essence.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn types_by_extension() {
        for (path, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.CSS", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("module.MJS", "text/javascript; charset=utf-8"),
            ("font.woff", "font/woff"),
            ("segment.ts", "video/mp2t"),
            ("logo.svg", "image/svg+xml; charset=utf-8"),
            ("data.json", "application/json"),
            ("photo.jpeg", "image/jpeg"),
            ("archive.tar.gz", "application/gzip"),
            ("module.wasm", "application/wasm"),
            ("dir.html/file", "application/octet-stream"),
            ("README", "application/octet-stream"),
            ("odd.", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(content_type(b"x.\xff"), "application/octet-stream");
    }
}
