//! Content-Type by a file's name.

/// What follows the last dot of the file's name; empty without one.
pub fn extension(path: &[u8]) -> &str {
    let name = path.rsplit(|&octet| octet == b'/').next().unwrap_or(path);
    let extension = name.iter().rposition(|&octet| octet == b'.').map(|dot| &name[dot + 1..]);
    extension.and_then(|octets| std::str::from_utf8(octets).ok()).unwrap_or("")
}

/// The media type for the file at `path`; text types say that they are UTF-8, which is what
/// files of today are. Unknown extensions are `application/octet-stream`.
pub fn content_type(path: &[u8]) -> String {
    let extension = extension(path);
    let essence = mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream");
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
