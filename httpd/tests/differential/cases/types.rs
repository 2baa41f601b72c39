//! Media types by extension.

use crate::case::Case;
use crate::subjects::EXTENSIONS;

pub(crate) fn cases() -> Vec<Case> {
    let of = |extension: &&str| {
        let request = format!("GET /types/it.{extension} HTTP/1.1\r\nHost: tagwire\r\n\r\n");
        Case::new(format!("type {extension}"), request)
    };
    EXTENSIONS.iter().map(of).collect()
}
