//! Where the two differ, and why that is right.

/// A difference that is meant.
pub(crate) struct Difference {
    /// Names of cases; one that ends with `*` stands for all that begin so. Each must still
    /// differ so, one of `*` somewhere.
    pub(crate) cases: &'static [&'static str],
    /// What differs. Each must still be so in one of the cases.
    pub(crate) what: &'static [What],
    pub(crate) why: &'static str,
}

/// An aspect as [`crate::compare`] calls it, and what it is with Tagwire and with nginx; `*` is
/// anything.
pub(crate) type What = (&'static str, &'static str, &'static str);

/// One refuses what the other serves.
const REFUSED: &[What] = &[("status", "400", "200"), ("connection", "ends", "stays")];
const SERVED: &[What] = &[("status", "200", "400"), ("connection", "stays", "ends")];

/// One sends the sibling.
const PACKED: &[What] =
    &[("Content-Encoding", "gzip", "-"), ("Content-Length", "34", "2100"), ("body", "*", "*")];

pub(crate) const DIFFERENCES: &[Difference] = &[
    // The connection.
    Difference {
        cases: &["*"],
        what: &[("Connection", "-", "keep-alive")],
        why: "A connection of HTTP/1.1 stays unless somebody says otherwise (RFC 9112 9.3): saying it \
              costs octets and tells nothing. Tagwire says it to clients of HTTP/1.0, which need it.",
    },
    Difference {
        cases: &[
            "connection closed in 1.1",
            "connection \"close\" in 1.1",
            "connection close;x in 1.1",
        ],
        what: &[("Connection", "-", "close"), ("connection", "stays", "ends")],
        why: "nginx looks for the word anywhere in the value. It is a list of tokens (RFC 9110 7.6.1), \
              and these are others.",
    },
    Difference {
        cases: &["connection close and keep-alive in two lines"],
        what: &[("Connection", "close", "keep-alive"), ("connection", "ends", "stays")],
        why: "Lines of one name are one list (RFC 9110 5.3), and close in it counts (RFC 9112 9.3). To \
              nginx the last line counts.",
    },
    Difference {
        cases: &[
            "If-Match *",
            "If-Unmodified-Since earlier",
            "If-Unmodified-Since 1970",
            "conditions not wanted*",
            "conditions tag not wanted, date new",
            "conditions not modified, modified",
            "conditions modified, HEAD 1.1",
            "range and another tag wanted",
            "encoding not wanted",
        ],
        what: &[("connection", "stays", "ends")],
        why: "nginx ends the connection behind a 412, which nothing asks for: the request was framed.",
    },
    // Methods.
    Difference {
        cases: &[
            "method P*",
            "method D*",
            "method TRACE /letters",
            "method CONNECT /letters",
            "range of POST",
            "conditions *",
            "encoding of POST",
            "body of POST *",
            "body that is expected by POST and comes",
            "connection close of POST",
            "connection keep-alive of POST in 1.0",
            "pipeline behind a 405",
        ],
        what: &[("Allow", "GET, HEAD, OPTIONS", "-")],
        why: "RFC 9110 15.5.6: a 405 must tell what is allowed.",
    },
    Difference {
        cases: &["method TRACE /letters", "method CONNECT /letters"],
        what: &[("Connection", "-", "close"), ("connection", "stays", "ends")],
        why: "nginx takes both for a sign of abuse. They are framed as any other request here.",
    },
    Difference {
        cases: &["method CONNECT tagwire:80"],
        what: &[("status", "405", "400"), ("connection", "stays", "ends")],
        why: "The authority-form is the form of CONNECT (RFC 9112 3.2.3): the request is right, and not \
              allowed.",
    },
    Difference {
        cases: &[
            "method OPTIONS *",
            "connection close of OPTIONS",
            "connection keep-alive of OPTIONS in 1.0",
        ],
        what: &[
            ("status", "204", "405"),
            ("status", "204", "400"),
            ("connection", "stays", "ends"),
        ],
        why: "Tagwire answers OPTIONS with what is allowed (RFC 9110 9.3.7), also for the server as a \
              whole.",
    },
    Difference {
        cases: &["method POST /missing", "method POST /sub", "method POST /bare/"],
        what: &[("status", "405", "404"), ("status", "405", "301"), ("status", "405", "403")],
        why: "A method that is never allowed is refused before anything is looked up: a POST that is \
              redirected would only be refused at its next stop.",
    },
    Difference {
        cases: &[
            "method PROPFIND /letters",
            "method MKCOL /letters",
            "method COPY /letters",
            "method MOVE /letters",
            "method LOCK /letters",
            "method UNLOCK /letters",
            "method SEARCH /letters",
            "method BREW*",
            "method G*",
            "method HEADER /letters",
            "method of 40 letters",
            "method of 3000 letters",
            "connection close of BREW",
            "connection keep-alive of BREW in 1.0",
        ],
        what: &[("status", "501", "405")],
        why: "RFC 9110 9.1: 501 for a method that is not known, 405 for one that is known and not allowed.",
    },
    Difference {
        cases: &[
            "method get /letters",
            "method Get /letters",
            "method head /letters",
            "method GET1 /letters",
            "method X!#$%&'*+.^`|~ /letters",
            "method PRI *",
        ],
        what: &[("status", "501", "400"), ("connection", "stays", "ends")],
        why: "Any token is a method (RFC 9110 9.1); to nginx only capitals, hyphens and underscores are.",
    },
    Difference {
        cases: &["pipeline with garbage between"],
        what: &[("status", "200 501", "200 400"), ("connection", "stays", "ends")],
        why: "xyzGET is a token, and so a method (RFC 9110 9.1); the request behind it is framed.",
    },
    // The request line.
    Difference {
        cases: &["line GET /letters", "line GET /letters ", "line of HTTP/0.9"],
        what: &[("status", "400", "garbage")],
        why: "HTTP/0.9 has no head in its answers, so that anything might be one. No client is left; \
              RFC 9112 does not know it any more.",
    },
    Difference {
        cases: &["line GET /letters HTTP/0.9", "method preface of HTTP/2"],
        what: &[("status", "505", "400")],
        why: "A version that HTTP has had and we do not speak is 505 (RFC 9110 15.6.6).",
    },
    Difference {
        cases: &["line GET /letters HTTP/11.1"],
        what: &[("status", "400", "505")],
        why: "A version has one digit on each side (RFC 9112 2.3).",
    },
    Difference {
        cases: &["line GET /letters HTTP/1.10", "line GET /letters HTTP/1.01"],
        what: REFUSED,
        why: "A version has one digit on each side (RFC 9112 2.3).",
    },
    Difference {
        cases: &[
            "line GET /letters HTTP/1.1 ",
            "line GET /letters HTTP/1.1  ",
            "line GET  /letters HTTP/1.1",
            "line GET /letters  HTTP/1.1",
        ],
        what: REFUSED,
        why: "One space each (RFC 9112 3). To read over others is allowed and dangerous, as the next \
              server may read another request.",
    },
    Difference {
        cases: &["line behind a bare CR"],
        what: REFUSED,
        why: "What is ignored before a request line is an empty line (RFC 9112 2.2), and a bare CR is \
              none.",
    },
    Difference {
        cases: &["pipeline with a bare CR between"],
        what: &[("status", "200 400", "200 200"), ("connection", "ends", "stays")],
        why: "What is ignored before a request line is an empty line (RFC 9112 2.2), and a bare CR is \
              none.",
    },
    Difference {
        cases: &["lines that end in LF", "lines that end in LF and CRLF", "field that ends in LF"],
        what: REFUSED,
        why: "A line ends in CRLF; to take LF alone is allowed (RFC 9112 2.2) and is how requests are \
              smuggled past a server that does not.",
    },
    // Host.
    Difference {
        cases: &[
            "host tagwire:http",
            "host tagwire:80:80",
            "host [fd00::1",
            "host fd00::1",
            "host [",
            "host ]",
            "host []",
            "host %",
            "host user@tagwire",
            "host tagwire?q",
            "host tagwire#f",
            "host tagwire\\\\x",
            "host tag\\\"wire",
            "host tag<wire>",
            "host t\u{e4}gwire",
        ],
        what: REFUSED,
        why: "RFC 9112 3.2: a Host that is no host and port must be refused with 400.",
    },
    Difference {
        cases: &["host .", "host ..", "host a..b"],
        what: SERVED,
        why: "Dots are part of a name (RFC 3986 3.2.2). nginx builds paths of it; here it picks a site and \
              nothing else.",
    },
    Difference {
        cases: &["host ", "host without a value or space", "host http://tagwire/letters Host:"],
        what: SERVED,
        why: "RFC 9112 3.2: a client sends an empty Host where its target has no authority.",
    },
    Difference {
        cases: &["host \\ttagwire\\t"],
        what: SERVED,
        why: "A tab around a value is no part of it (RFC 9110 5.5).",
    },
    Difference {
        cases: &[
            "host https://tagwire/letters Host: tagwire",
            "host ftp://tagwire/letters Host: tagwire",
        ],
        what: REFUSED,
        why: "These are resources of other servers (RFC 9110 7.4): here is http and nothing else.",
    },
    // Targets.
    Difference {
        cases: &[
            "host http://tagwire/letters#f Host: tagwire",
            "target /letters#",
            "target /letters#fragment",
            "target /#",
        ],
        what: REFUSED,
        why: "A target has no fragment (RFC 9112 3.2); who sends one has put it together wrongly.",
    },
    Difference {
        cases: &["target /a#b.txt"],
        what: &[("status", "400", "301"), ("connection", "ends", "stays")],
        why: "A target has no fragment (RFC 9112 3.2); who sends one has put it together wrongly.",
    },
    Difference {
        cases: &["target with octet 255"],
        what: REFUSED,
        why: "A target is ASCII (RFC 3986 2). Browsers of old send UTF-8, which both take; this is neither.",
    },
    Difference {
        cases: &[
            "target /%01",
            "target /%09",
            "target /%0a",
            "target /letters%0d%0aX:%20y",
            "target /%1f",
            "target /%7f",
        ],
        what: &[("status", "400", "404"), ("connection", "ends", "stays")],
        why: "Control octets in a name are for logs and terminals to choke on; no site needs them.",
    },
    Difference {
        cases: &[
            "target /.hidden",
            "target /%2ehidden",
            "target /.folder/file.txt",
            "target /..dots",
            "target /.../file.txt",
        ],
        what: &[("status", "404", "200")],
        why: "Names that begin with a dot are hidden unless the site says otherwise, .well-known \
              excepted: .git and .env are what scanners look for.",
    },
    Difference {
        cases: &["target /.folder/", "target /.folder"],
        what: &[("status", "404", "403"), ("status", "404", "301")],
        why: "Likewise: not even that it is there is told.",
    },
    Difference {
        cases: &["target /outside.txt"],
        what: &[("status", "403", "200")],
        why: "A link does not lead out of www-root.",
    },
    Difference {
        cases: &["target /fifo"],
        what: &[("status", "403", "404")],
        why: "It is there, and is not served.",
    },
    Difference {
        cases: &["target /sub?"],
        what: &[("Location", "/sub/?", "/sub/")],
        why: "An empty query is a query (RFC 3986 6.2.3), and goes along as it was sent.",
    },
    // Media types.
    Difference {
        cases: &[
            "method GET /sub",
            "method HEAD /sub",
            "host http://tagwire/sub Host: tagwire",
            "target *",
            "range of /sub",
            "conditions *",
            "connection close for /sub",
            "connection keep-alive for /sub in 1.0",
            "pipeline behind a 301",
            "encoding of a directory",
        ],
        what: &[("Content-Type", "text/html; charset=utf-8", "text/html")],
        why: "The page of a redirect is a text like others.",
    },
    Difference {
        cases: &["type js"],
        what: &[(
            "Content-Type",
            "text/javascript; charset=utf-8",
            "application/javascript; charset=utf-8",
        )],
        why: "RFC 9239 has made text/javascript the name of it.",
    },
    Difference {
        cases: &["type bmp"],
        what: &[("Content-Type", "image/bmp", "image/x-ms-bmp")],
        why: "RFC 7903 has registered it.",
    },
    Difference {
        cases: &[
            "type csv",
            "type flac",
            "encoding of the sibling itself*",
            "type gz",
            "type map",
            "type md",
            "type mjs",
            "type otf",
            "type tar",
            "type tgz",
            "type toml",
            "type ttf",
            "type wav",
            "type webmanifest",
            "type yaml",
        ],
        what: &[("Content-Type", "*", "application/octet-stream")],
        why: "The table of nginx 1.22 does not have it.",
    },
    // Ranges.
    Difference {
        cases: &[
            "range bytes=0-99999999999999999999999999",
            "range bytes=-9223372036854775808",
            "range bytes=-99999999999999999999999999",
        ],
        what: &[("status", "206", "416")],
        why: "A position behind the end means the end, a suffix that is longer than the file all of it \
              (RFC 9110 14.1.2), however many digits it has.",
    },
    Difference {
        cases: &["range bytes=0-0,", "range bytes=,0-0", "range bytes=0-0,,2-2"],
        what: &[("status", "206", "416")],
        why: "RFC 9110 5.6.1.2: empty members of a list are to be read over.",
    },
    Difference {
        cases: &["range bytes=\\t0-4"],
        what: &[("status", "206", "416")],
        why: "nginx reads over a space there. A tab is white space like it (RFC 9110 5.6.3).",
    },
    Difference {
        cases: &["range bytes="],
        what: &[("status", "416", "200")],
        why: "A list of nothing is not valid, and may be refused as well as ignored (RFC 9110 14.2); \
              nginx refuses all others that are not.",
    },
    Difference {
        cases: &[
            "range bytes=0-4,2-8",
            "range bytes=0-4,5-8",
            "range bytes=0-4,0-4",
            "range bytes=0-4,4-4",
            "range bytes=1-1,3-3,1-1",
        ],
        what: &[
            ("Content-Type", "application/octet-stream", "multipart/byteranges; boundary=BOUNDARY"),
            ("Content-Range", "*", "-"),
            ("Content-Length", "*", "*"),
            ("body", "*", "*"),
        ],
        why: "What overlaps or touches is sent once (RFC 9110 15.3.7.2), so that no list of ranges makes \
              more work than the file.",
    },
    Difference {
        cases: &["range bytes=0-12,13-25"],
        what: &[("status", "200", "206")],
        why: "Together they are the whole file.",
    },
    Difference {
        cases: &["range list of 65", "range list of 500"],
        what: &[("status", "200", "206")],
        why: "RFC 9110 14.2: a list of very many ranges is ignored. nginx has no limit unless one is set \
              (max_ranges).",
    },
    Difference {
        cases: &["range twice", "range twice, the same"],
        what: &[("status", "200", "206")],
        why: "Range is no list (RFC 9110 5.3, 14.2): two of them say nothing that can be relied on, and to \
              ignore it is always right.",
    },
    Difference {
        cases: &["range of HEAD", "range of HEAD, several", "range of HEAD that is unsatisfiable"],
        what: &[("status", "200", "206"), ("status", "200", "416")],
        why: "RFC 9110 14.2: Range has a meaning for GET only.",
    },
    Difference {
        cases: &["range of nothing bytes=1-"],
        what: &[("status", "200", "416")],
        why: "All of a file that has become empty is what tells a client that resumes it so. nginx has it \
              so for bytes=0- only.",
    },
    // Conditions.
    Difference {
        cases: &[
            "If-Modified-Since later",
            "If-Modified-Since much later",
            "If-Modified-Since in year 9999",
        ],
        what: &[("status", "304", "200")],
        why: "RFC 9110 13.1.3: not modified since then. nginx compares for equality unless told otherwise \
              (if_modified_since before).",
    },
    Difference {
        cases: &["conditions tag known, date old"],
        what: &[("status", "304", "200")],
        why: "RFC 9110 13.2.2: with If-None-Match, If-Modified-Since is not evaluated.",
    },
    Difference {
        cases: &["conditions tag wanted, date old"],
        what: &[("status", "200", "412"), ("connection", "stays", "ends")],
        why: "RFC 9110 13.2.2: with If-Match, If-Unmodified-Since is not evaluated.",
    },
    Difference {
        cases: &[
            "If-Unmodified-Since of no weekday",
            "If-Unmodified-Since in small letters",
            "If-Unmodified-Since of a 32nd",
            "If-Unmodified-Since of February 30",
            "If-Unmodified-Since at 25 o'clock",
            "If-Unmodified-Since ISO 8601",
            "If-Unmodified-Since a number",
            "If-Unmodified-Since nonsense",
            "If-Unmodified-Since empty",
            "If-Unmodified-Since zero",
        ],
        what: &[("status", "200", "412"), ("connection", "stays", "ends")],
        why: "RFC 9110 13.1.4: what is no date must be ignored.",
    },
    Difference {
        cases: &["If-Unmodified-Since before 1970"],
        what: &[("status", "200", "412"), ("connection", "stays", "ends")],
        why: "It is taken for no date: neither server can tell such a time. There was no HTTP then.",
    },
    Difference {
        cases: &[
            "If-Modified-Since of another weekday",
            "If-Modified-Since without a zone",
            "If-Modified-Since with length",
        ],
        what: &[("status", "200", "304")],
        why: "None of the three forms of a date (RFC 9110 5.6.7), and what is no date must be ignored \
              (13.1.3): the file is sent once more, which is always right.",
    },
    Difference {
        cases: &["conditions tag in two lines"],
        what: &[("status", "304", "400"), ("connection", "stays", "ends")],
        why: "A list may come in several lines (RFC 9110 5.3).",
    },
    Difference {
        cases: &["conditions wanted in two lines"],
        what: SERVED,
        why: "A list may come in several lines (RFC 9110 5.3).",
    },
    Difference {
        cases: &["conditions date in two lines"],
        what: SERVED,
        why: "RFC 9110 13.1.3: of more than one date, all must be ignored.",
    },
    // Encodings.
    Difference {
        cases: &["encoding *"],
        what: &[("Accept-Ranges", "bytes", "-")],
        why: "An encoded file has parts as any other representation (RFC 9110 14.1); nginx sends siblings \
              whole.",
    },
    Difference {
        cases: &["encoding of a part", "encoding of two parts", "encoding of a part behind it"],
        what: &[("status", "206", "200"), ("status", "416", "200")],
        why: "Likewise.",
    },
    Difference {
        cases: &["encoding \"x-gzip\"", "encoding \"*\"", "encoding \"*;q=0.5\""],
        what: PACKED,
        why: "x-gzip is gzip (RFC 9110 8.4.1.3), and * is any coding (12.5.3).",
    },
    Difference {
        cases: &["encoding in two lines"],
        what: PACKED,
        why: "A list may come in several lines (RFC 9110 5.3). nginx reads the first.",
    },
    Difference {
        cases: &["encoding \"gzip-not, gzip\""],
        what: PACKED,
        why: "nginx takes the first place where the word stands, and looks no further.",
    },
    Difference {
        cases: &["encoding of HTTP/1.0", "encoding by a proxy"],
        what: PACKED,
        why: "Who says that it decodes gets it, whatever the version and the way. nginx has switches for \
              both (gzip_http_version, gzip_proxied).",
    },
    Difference {
        cases: &["encoding \"identity;q=1, gzip;q=0.5\""],
        what: &[
            ("Content-Encoding", "-", "gzip"),
            ("Content-Length", "2100", "34"),
            ("body", "*", "*"),
        ],
        why: "The client would rather have the file as it is (RFC 9110 12.5.3). nginx looks at weights of \
              zero only.",
    },
    Difference {
        cases: &["encoding of a sibling without a file"],
        what: &[("status", "404", "200")],
        why: "A sibling is another form of a file, which is not there.",
    },
    // Fields.
    Difference {
        cases: &[
            "field without a colon",
            "field with a slash in its name",
            "field with a parenthesis in its name",
            "field with quotes in its name",
            "field with an at sign in its name",
            "field with a bracket in its name",
            "field with an equals sign in its name",
            "field with UTF-8 in its name",
        ],
        what: REFUSED,
        why: "No field line (RFC 9112 5). nginx reads over it; a server before or behind us may not, and \
              take it for a field that counts.",
    },
    Difference {
        cases: &[
            "field with a control octet in its value",
            "field with a vertical tab in its value",
            "field with DEL in its value",
            "field with a bare CR at its end",
        ],
        what: REFUSED,
        why: "No value has control octets (RFC 9110 5.5), a bare CR least of all (RFC 9112 2.2).",
    },
    Difference {
        cases: &["field a hundred times", "field, 500 of them"],
        what: &[("status", "431", "200"), ("connection", "ends", "stays")],
        why: "A limit of ours (RFC 6585 5): browsers send a third of it.",
    },
    Difference {
        cases: &["field of 60000 octets"],
        what: &[("status", "431", "400")],
        why: "RFC 6585 5 has a status for it; nginx has one of its own, 494, which it shows as 400.",
    },
    // Bodies.
    Difference {
        cases: &[
            "body of 70000 octets",
            "body of 70000 octets, chunked",
            "body of 900000 octets",
            "body of 900000 octets, chunked",
        ],
        what: &[("status", "413", "200"), ("connection", "ends", "stays")],
        why: "No file needs a body to be asked for: 64 KiB are read and thrown away, nginx reads 1 MiB. \
              One that says its length is refused at once, a chunked one ends the connection.",
    },
    Difference {
        cases: &["body of 2^63"],
        what: &[("status", "413", "400")],
        why: "A number (RFC 9110 8.6), and more than is read.",
    },
    Difference {
        cases: &[
            "body chunked with a space before the size",
            "body chunked with 0x before the size",
            "body chunked with a sign",
            "body chunked with minus",
            "body chunked with no size",
            "body chunked with a size that is none",
            "body chunked with a size of 17 digits",
            "body chunked with more than the size",
            "body chunked with a bare CR",
        ],
        what: &[("status", "200", "400")],
        why: "The answer does not depend on the body, and leaves before it is read. Both end the \
              connection, since nobody can say where the next request begins.",
    },
    Difference {
        cases: &["body of POST chunked with a sign"],
        what: &[("Connection", "-", "close")],
        why: "Likewise: that the connection ends is not known yet when the answer leaves.",
    },
    Difference {
        cases: &[
            "body chunked with a space behind the size",
            "body chunked that ends in LF",
            "body chunked, size line ends in LF",
            "body chunked, data ends in LF",
        ],
        what: &[("connection", "ends", "stays")],
        why: "RFC 9112 7.1 has neither. Where two servers disagree about the end of a chunk, a request is \
              smuggled.",
    },
    Difference {
        cases: &["body chunked behind a vertical tab"],
        what: &[("status", "400", "501")],
        why: "No value has control octets (RFC 9110 5.5).",
    },
    Difference {
        cases: &[
            "body that is expected and there",
            "body that is expected and none",
            "body that is expected without a length",
        ],
        what: &[("status", "200", "100 200")],
        why: "Who has begun to send the body, or has none, waits for nothing (RFC 9110 10.1.1).",
    },
    Difference {
        cases: &["body that is expected for what is missing and comes"],
        what: &[("status", "100 404", "404")],
        why: "The body is called for so that what follows it is a request for sure, and the connection \
              can stay.",
    },
    Difference {
        cases: &[
            "body of POST that is expected and there",
            "body that is expected by POST and comes",
        ],
        what: &[("Connection", "close", "keep-alive"), ("connection", "ends", "stays")],
        why: "After a refusal the client may send the body or not (RFC 9110 10.1.1): what follows could be \
              either, or a request.",
    },
];
