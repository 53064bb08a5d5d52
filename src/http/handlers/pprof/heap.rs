//! Takes heap profiles: the allocations that jemalloc has sampled since the start and that are live.

#[cfg(feature = "heap-profile")]
use super::{
    encode::{decode, encode},
    failed,
};
use crate::http::error::ProfileError;

/// The allocator's own frames, the innermost of each stack, which readers drop.
#[cfg(feature = "heap-profile")]
const ALLOCATOR: &str = "_rjem_.*|prof_.*|do_rallocx|.*tikv_jemallocator::Jemalloc.*|__rustc::.*";

/// The live allocations by the stacks that made them.
///
/// # Errors
/// [`ProfileError::NoHeap`].
#[cfg(not(feature = "heap-profile"))]
pub(super) async fn profile() -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::NoHeap)
}

/// The live allocations by the stacks that made them.
///
/// # Errors
/// [`ProfileError::NoHeap`], [`ProfileError::HeapInUse`], [`ProfileError::Failed`].
#[cfg(feature = "heap-profile")]
pub(super) async fn profile() -> Result<Vec<u8>, ProfileError> {
    // Absent if _RJEM_MALLOC_CONF=prof:false is set, or jemalloc was built without our settings.
    let control = jemalloc_pprof::PROF_CTL.clone();
    let control = control.ok_or(ProfileError::NoHeap)?;
    let control = control.try_lock_owned();
    let mut control = control.map_err(|_| ProfileError::HeapInUse)?;
    let profile = tokio::task::spawn_blocking(move || {
        let profile = control.dump_pprof().map_err(|error| failed(&error))?;
        let profile = decode(&profile).map_err(|error| failed(&error))?;
        encode(profile, ALLOCATOR).map_err(|error| failed(&error))
    });
    profile.await.map_err(|error| failed(&error))?
}
