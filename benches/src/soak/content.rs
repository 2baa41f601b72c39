//! Files whose every octet says where it belongs: any part of one shows which version of which
//! file it is of, and whether it is of one version only.

use tagwire_lab::SplitMix64;

/// Octets that stand for themselves: file, version, place, and a sum of them.
pub const BLOCK: usize = 64;

/// A version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// Which file.
    pub file: u32,
    /// From 1.
    pub version: u32,
}

impl Edition {
    fn block(self, index: u64) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(&self.file.to_le_bytes());
        block[4..8].copy_from_slice(&self.version.to_le_bytes());
        block[8..16].copy_from_slice(&index.to_le_bytes());
        let seed = u64::from(self.file) << 32 | u64::from(self.version);
        let mut sum = SplitMix64::new(seed ^ index.rotate_left(17));
        for word in block[16..].chunks_exact_mut(8) {
            word.copy_from_slice(&sum.next().to_le_bytes());
        }
        block
    }

    /// The file's content.
    pub fn content(self, len: u64) -> Vec<u8> {
        let blocks = len.div_ceil(BLOCK as u64);
        let mut octets: Vec<u8> = (0..blocks).flat_map(|index| self.block(index)).collect();
        octets.truncate(len as usize);
        octets
    }
}

/// Looks at a part of a file as it comes, piece by piece.
#[derive(Debug)]
pub struct Reader {
    file: u32,
    /// Where in the file the next octet is from.
    at: u64,
    /// Kept until there is a whole block, which tells the version.
    held: Vec<u8>,
    edition: Option<Edition>,
    block: (u64, [u8; BLOCK]),
}

impl Reader {
    /// For what comes from octet `start` of `file` on.
    pub fn new(file: u32, start: u64) -> Self {
        Self { file, at: start, held: Vec::new(), edition: None, block: (u64::MAX, [0; BLOCK]) }
    }

    /// The version, once there was a whole block.
    pub fn version(&self) -> Option<u32> {
        self.edition.map(|edition| edition.version)
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// With the first octet that does not belong there.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        if self.edition.is_some() {
            return self.check(piece);
        }
        self.held.extend_from_slice(piece);
        // The first whole block begins so many octets behind the start.
        let skip = (self.at.next_multiple_of(BLOCK as u64) - self.at) as usize;
        let Some(first) = self.held.get(skip..skip + BLOCK) else { return Ok(()) };
        let version = u32::from_le_bytes([first[4], first[5], first[6], first[7]]);
        self.edition = Some(Edition { file: self.file, version });
        let held = std::mem::take(&mut self.held);
        self.check(&held)
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), String> {
        let Some(edition) = self.edition else { return Ok(()) };
        let mut rest = piece;
        while !rest.is_empty() {
            let (index, first) = (self.at / BLOCK as u64, (self.at % BLOCK as u64) as usize);
            if self.block.0 != index {
                self.block = (index, edition.block(index));
            }
            let due = &self.block.1[first..];
            let here = due.len().min(rest.len());
            if rest[..here] != due[..here] {
                return Err(format!(
                    "a wrong octet in block {index} of version {} of file {}: {}, not {}",
                    edition.version,
                    edition.file,
                    rest[..here].escape_ascii(),
                    due[..here].escape_ascii()
                ));
            }
            rest = &rest[here..];
            self.at += here as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDITION: Edition = Edition { file: 7, version: 3 };

    #[test]
    fn any_part_tells_its_version_however_it_comes() {
        let content = EDITION.content(1000);
        assert_eq!(content.len(), 1000);
        for (start, end, piece) in [(0, 1000, 1000), (0, 64, 1), (1, 128, 7), (63, 999, 64)] {
            let mut reader = Reader::new(7, start as u64);
            for piece in content[start..end].chunks(piece) {
                reader.take(piece).unwrap();
            }
            assert_eq!(reader.version(), Some(3), "{start}..{end}");
        }
    }

    #[test]
    fn a_mixture_another_place_and_another_file_are_seen() {
        let (old, new) = (EDITION.content(300), Edition { version: 4, ..EDITION }.content(300));
        let mixed = [&old[..200], &new[200..]].concat();
        let error = Reader::new(7, 0).take(&mixed).unwrap_err();
        assert!(error.contains("block 3 of version 3"), "{error}");
        assert!(Reader::new(7, 64).take(&old).is_err());
        assert!(Reader::new(8, 0).take(&old).is_err());
        let mut flipped = old;
        flipped[299] ^= 1;
        assert!(Reader::new(7, 0).take(&flipped).is_err());
    }
}
