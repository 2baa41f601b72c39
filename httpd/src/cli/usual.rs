//! What is usual for sites: options that stand for all of those that do not say it themselves.

use clap::Args;

use super::{switch, trimmed};
use crate::compress::parse_codings;
use crate::config::parse_size;
use crate::encoding::Coding;
use crate::listing::ListingFormat;
use crate::site::SiteSettings;

#[derive(Debug, Args)]
pub(super) struct UsualArgs {
    /// What text without an encoded sibling is compressed with, once, when it is loaded: off, or
    /// some of gzip, br and zstd with commas
    #[arg(long, env = "COMPRESS", value_name = "CODINGS", value_parser = parse_codings, default_value = "gzip")]
    compress: Box<[Coding]>,
    /// The least that is compressed: octets, or with k, m
    #[arg(long, env = "COMPRESS_MIN_SIZE", value_name = "SIZE", value_parser = |text: &str| parse_size(text.trim()), default_value = "1k")]
    compress_min_size: u64,
    /// How directories without an index file are listed: off, html, json, or auto for what the
    /// client wants
    #[arg(long, env = "LISTING", value_name = "FORM", value_parser = trimmed::<ListingFormat>, default_value = "off")]
    listing: ListingFormat,
    /// Answer version.json, interface_list.json and interface_stats.json as VPP's static server does
    #[arg(long, env = "BUILTIN_JSON", value_parser = switch)]
    builtin_json: bool,
}

impl UsualArgs {
    /// Says what nothing was said about.
    pub(super) fn complete(&self, site: &mut SiteSettings) {
        site.compress.get_or_insert_with(|| self.compress.clone());
        site.compress_min_size.get_or_insert(self.compress_min_size);
        site.listing.get_or_insert(self.listing);
        site.builtin_json.get_or_insert(self.builtin_json);
    }
}
