//! Compression of text, once for each file: what is compressed, with what, and how hard.
//!
//! It happens when a file is loaded, on the cold side, and never for a request; where the content was
//! compressed at deployment, an encoded sibling goes before.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::encoding::Coding;
use crate::limits::CHUNK;

/// Reads `off`, or names of codings with commas between them.
///
/// # Errors
/// Something else is among them; the text says what to write.
pub fn parse_codings(text: &str) -> Result<Box<[Coding]>, String> {
    let text = text.trim();
    if text == "off" {
        return Ok(Box::default());
    }
    let mut codings = Vec::new();
    for name in text.split(',').map(str::trim) {
        let coding = Coding::ALL.into_iter().find(|coding| coding.token() == name);
        let coding = coding.ok_or_else(|| {
            format!("{name:?} is no coding; use off, or some of gzip, br and zstd: gzip,br say")
        })?;
        if codings.contains(&coding) {
            return Err(format!("{name} is given twice; give it once"));
        }
        codings.push(coding);
    }
    Ok(codings.into())
}

/// Levels at which a coding takes about as long as the others and packs nearly as well as it can;
/// each of the steps behind them doubles the time for some percent.
const GZIP_LEVEL: u32 = 6;
const BROTLI_QUALITY: i32 = 5;
const ZSTD_LEVEL: i32 = 9;

/// How far back Brotli looks: log2 of the most that is compressed. The usual 22 takes 7 MiB more.
const BROTLI_WINDOW: i32 = CHUNK.ilog2() as i32;

/// Whether content of this media type gets shorter. What is compressed by itself (pictures, videos,
/// archives, WOFF) does not, and most of what has no type is such.
pub fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim_ascii_end();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with("text/")
        || ["+json", "+xml", "+yaml"].iter().any(|suffix| essence.ends_with(suffix))
        || matches!(
            &*essence,
            "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/json"
                | "application/x-ndjson"
                | "application/xml"
                | "application/yaml"
                | "application/toml"
                | "application/sql"
                | "application/graphql"
                | "application/rtf"
                | "application/x-sh"
                | "application/wasm"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "font/collection"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
        )
}

/// `octets` in these codings, those left out that save less than a tenth.
pub fn compress_in(codings: &[Coding], octets: &[u8]) -> Vec<(Coding, Bytes)> {
    let most = octets.len() - octets.len() / 10;
    let encoded = codings.iter().filter_map(|&coding| match compress(coding, octets) {
        Ok(encoded) => (encoded.len() < most).then(|| (coding, Bytes::from(encoded))),
        Err(error) => {
            tracing::error!(%coding, %error, "the compressor has failed");
            None
        }
    });
    encoded.collect()
}

fn compress(coding: Coding, octets: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = GzEncoder::new(Vec::with_capacity(octets.len() / 2), level);
            encoder.write_all(octets)?;
            encoder.finish()
        }
        Coding::Brotli => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW,
                size_hint: octets.len(),
                ..Default::default()
            };
            let mut encoded = Vec::with_capacity(octets.len() / 2);
            brotli::BrotliCompress(&mut &*octets, &mut encoded, &parameters)?;
            Ok(encoded)
        }
        Coding::Zstd => zstd::bulk::compress(octets, ZSTD_LEVEL),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn decoded(coding: Coding, encoded: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut octets),
            Coding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut octets),
            Coding::Zstd => zstd::Decoder::new(encoded).unwrap().read_to_end(&mut octets),
        }
        .unwrap();
        octets
    }

    #[test]
    fn lists_of_codings() {
        use Coding::{Brotli, Gzip, Zstd};
        for (text, expected) in
            [("off", &[][..]), ("gzip", &[Gzip]), (" br , zstd,gzip ", &[Brotli, Zstd, Gzip])]
        {
            assert_eq!(*parse_codings(text).unwrap(), *expected, "{text}");
        }
        for (text, part) in [
            ("", "is no coding; use off, or"),
            ("brotli", "\"brotli\" is no coding"),
            ("gzip,", "is no coding"),
            ("gzip,off", "\"off\" is no coding"),
            ("gzip,br,gzip", "gzip is given twice"),
        ] {
            let error = parse_codings(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_worth_a_try() {
        for (content_type, expected) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/PLAIN", true),
            ("application/json ; x=y", true),
            ("application/manifest+json", true),
            ("image/svg+xml; charset=utf-8", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("font/woff2", false),
            ("image/png", false),
            ("application/gzip", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_compressible(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn what_saves_little_is_left_out() {
        let text = "what repeats itself ".repeat(100);
        let all = compress_in(&Coding::ALL, text.as_bytes());
        assert_eq!(all.iter().map(|(coding, _)| *coding).collect::<Vec<_>>(), Coding::ALL);
        let mut state = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(2000)
        .collect();
        assert!(compress_in(&Coding::ALL, &noise).is_empty());
        assert!(compress_in(&Coding::ALL, b"").is_empty());
        assert!(compress_in(&[], text.as_bytes()).is_empty());
    }

    #[test]
    fn the_same_octets_are_encoded_alike() {
        // Entity tags of replicas agree then.
        let text = include_bytes!("compress.rs");
        for (coding, encoded) in compress_in(&Coding::ALL, text) {
            assert!(compress(coding, text).unwrap() == encoded, "{coding}");
        }
    }

    /// Text, noise, runs, and mixtures of them.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "[a-z <>/=\"\n]{0,200}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..200),
            (any::<u8>(), 0usize..70_000).prop_map(|(octet, times)| vec![octet; times]),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_encoding_decodes_to_the_file(octets in content()) {
            for coding in Coding::ALL {
                let encoded = compress(coding, &octets).unwrap();
                prop_assert!(decoded(coding, &encoded) == octets, "{}", coding);
            }
        }
    }
}
