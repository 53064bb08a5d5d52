//! Encodes profiles for `go tool pprof`.

use std::io::{Result, Write};

use flate2::Compression;
#[cfg(feature = "heap-profile")]
use flate2::write::GzDecoder;
use flate2::write::GzEncoder;
use pprof::protos::{Message, Profile};

/// Protobuf, gzipped as Go's runtime does it. The tool takes calls that match `drop_frames`
/// (an RE2 expression for whole names) off the innermost end of each stack.
pub(super) fn encode(mut profile: Profile, drop_frames: &str) -> Result<Vec<u8>> {
    profile.drop_frames = intern(&mut profile, drop_frames);
    for mapping in &mut profile.mapping {
        // Otherwise a tool that finds the program's file replaces our names with worse ones.
        mapping.has_functions = true;
        mapping.has_filenames = true;
        mapping.has_line_numbers = true;
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&profile.encode_to_vec())?;
    gzip.finish()
}

/// Adds a text to the profile; its number there.
pub(super) fn intern(profile: &mut Profile, text: &str) -> i64 {
    profile.string_table.push(text.to_string());
    i64::try_from(profile.string_table.len() - 1).unwrap_or(0)
}

/// The reverse of [`encode`], for profiles made by a library.
#[cfg(feature = "heap-profile")]
pub(super) fn decode(bytes: &[u8]) -> Result<Profile> {
    let mut gzip = GzDecoder::new(Vec::new());
    gzip.write_all(bytes)?;
    Ok(Profile::decode(gzip.finish()?.as_slice())?)
}
