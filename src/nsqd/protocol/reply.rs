//! Answers as they go over the wire. PURE.

/// The answer to everything that has no other.
pub(crate) const OK: &[u8] = b"OK";

/// Appends an answer: its length in four bytes, big-endian, and its body.
pub(crate) fn frame(body: &[u8], out: &mut Vec<u8>) {
    // No answer comes near 4 GiB: the longest echoes a line of bounded length.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}
