//! Frames answers for the wire. PURE.

/// The answer to commands that succeed.
pub(crate) const OK: &[u8] = b"OK";

/// Appends an answer: its length in four bytes, big-endian, then its body.
pub(crate) fn frame(body: &[u8], out: &mut Vec<u8>) {
    // No answer comes near 4 GiB: the longest one echoes a line, which is bounded.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}
