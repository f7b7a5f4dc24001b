//! Dual-write between the two sides of one context: images, the log they wait in, and the sink that takes them.
//!
//! Invariant: a side applies an image only if the image's version is above what it holds for that id, so images
//! may arrive twice, late or beside a backfill and both sides still end equal.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Unavailable;

/// The whole state of one id after one change: what the owner sends to the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The context's counter at this change; never decreases, never repeats.
    pub version: i64,
    /// The id as text, since contexts differ in their keys.
    pub id: String,
    /// The state, or nothing when the change was a removal.
    pub state: Option<Value>,
}

/// What the other side did with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// Stored.
    Stored,
    /// It held the same or a newer version of this id already.
    Stale,
    /// A unique value of the image belongs to another id whose version is *newer*: the owner gave the value away
    /// after this image, so a later image of this id is on its way and this one may be skipped.
    Superseded,
}

/// Why the other side did not take an image. Delivery goes on trying; nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReplicaError {
    /// A unique value belongs to another id with an *older* version; an earlier image must come first.
    #[error("image {version} of {id} collides with {holder}")]
    Conflict {
        /// The image's version.
        version: i64,
        /// The image's id.
        id: String,
        /// Who holds the value.
        holder: String,
    },
    /// This side owns the context, so it takes no images.
    #[error("this side owns {context}")]
    Owner {
        /// The context.
        context: String,
    },
    /// The state is not one that this side understands.
    #[error("image {version} of {id} is not understood: {reason}")]
    Malformed {
        /// The image's version.
        version: i64,
        /// The image's id.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The other side could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Takes images of one context: the context's store on the side that is not the owner, or a client to it.
#[async_trait]
pub trait ReplicaSink: Send + Sync {
    /// Applies one image. Idempotent.
    async fn apply(&self, image: Image) -> Result<Applied, ReplicaError>;
}

/// What waits in the intent log of one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// Images not yet delivered.
    pub pending: u64,
    /// Age of the oldest one.
    pub oldest_ms: u64,
}

/// The owner's log of images to deliver, written in the same transaction as the change itself.
#[async_trait]
pub trait IntentLog: Send + Sync {
    /// Undelivered images in ascending order of version, at most `limit`.
    async fn pending(&self, limit: u32) -> Result<Vec<Image>, Unavailable>;

    /// Marks all images up to and including this version as delivered.
    async fn delivered(&self, up_to: i64) -> Result<(), Unavailable>;

    /// How much waits.
    async fn backlog(&self) -> Result<Backlog, Unavailable>;
}

/// Whether a side accepts client writes of a context now, and since which change of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceState {
    /// Client writes are refused.
    pub closed: bool,
    /// The fencing token under which the fence was last moved.
    pub token: i64,
}

/// The fence of one context in one side's own database. Every client write reads it in its own transaction, so once
/// [`Fence::close`] has returned no client write can commit.
#[async_trait]
pub trait Fence: Send + Sync {
    /// The fence as it stands.
    async fn state(&self) -> Result<FenceState, Unavailable>;

    /// Opens the fence if it was last moved under token `seen`, and records `token`. Returns whether it did:
    /// a newer change of ownership that closed it meanwhile must not be undone.
    async fn open(&self, seen: i64, token: i64) -> Result<bool, Unavailable>;

    /// Closes the fence if it was last moved under token `seen`, and records `token`. Returns whether it did.
    async fn close(&self, seen: i64, token: i64) -> Result<bool, Unavailable>;
}
