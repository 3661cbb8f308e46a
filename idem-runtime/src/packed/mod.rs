//! Packed markers: the digests of a batch's keys in one row, and a lane's window of them in memory.
//!
//! The seal makes a lane the only writer of its partition, so the lane alone can know which keys of it
//! were seen: it loads the window when it is taken, and from then on memory answers. The database has
//! all of it, in rows that are written in the transaction of each batch.

mod asked;
mod budget;
mod bytes;
mod digest;
mod filter;
mod find;
mod pack;
mod row;
mod table;
mod window;

pub(crate) use self::asked::{Asked, Filters, RunFilter};
pub(crate) use self::budget::{Alone, Budget, Measure, Measured};
pub use self::digest::{Digest, DigestKey};
pub(crate) use self::filter::Filter;
pub(crate) use self::find::find_marker;
pub use self::find::{check_settled, has, may_have, only, refused, without};
pub use self::pack::{Damaged, Pack};
pub use self::row::{
    BLOCK, Floor, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock, RunPart,
    WindowId, WindowRow,
};
pub(crate) use self::window::{Lack, Look, Window};
