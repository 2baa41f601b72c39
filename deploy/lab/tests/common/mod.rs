//! What the lab's tests share.

/// Whether a test cannot run here; it has then said why.
pub(crate) fn skipped() -> bool {
    match tagwire_lab::available() {
        Ok(()) => false,
        Err(why) => {
            eprintln!("SKIPPED (needs root): {why}");
            true
        }
    }
}
