//! The part for packed markers.

use std::time::{Duration, SystemTime};

use idem_runtime::lane::{Held, LaneId};
use idem_runtime::packed::{
    Digest, DigestKey, Floor, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock,
    RunPart, WindowId, WindowRow,
};
use idem_runtime::store::PackedMarkers;
use idem_runtime::{Key, MarkerMode, Result};

use crate::{Postgres, Tx, direct, foreign, gone, merge, packs, retired, runs, scopes};

impl PackedMarkers for Postgres {
    async fn digest_key(&self) -> Result<DigestKey> {
        packs::digest_key(&self.inner).await
    }

    async fn pack(
        &self,
        tx: &mut Tx,
        held: &Held,
        packs: &[NewPack<'_>],
    ) -> Result<Option<SystemTime>> {
        packs::pack(&self.inner, tx, held, packs).await
    }

    async fn window(&self, window: &WindowId<'_>) -> Result<WindowRow> {
        packs::window(&self.inner, window).await
    }

    async fn packs(&self, window: &WindowId<'_>, after: i64, limit: u32) -> Result<Vec<PackRow>> {
        packs::of_window(&self.inner, window, (after, limit), true).await
    }

    async fn pack_heads(
        &self,
        window: &WindowId<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        packs::of_window(&self.inner, window, (after, limit), false).await
    }

    async fn packs_of(&self, window: &WindowId<'_>, rows: &[i64]) -> Result<Vec<PackRow>> {
        packs::of_numbers(&self.inner, window, rows).await
    }

    async fn runs(&self, window: &WindowId<'_>, but: &[i64], limit: u32) -> Result<Vec<Run>> {
        runs::of_window(&self.inner, window, but, limit).await
    }

    async fn runs_of(&self, runs: &[i64]) -> Result<Vec<Run>> {
        runs::of_numbers(&self.inner, runs).await
    }

    async fn in_runs(&self, tx: &mut Tx, asked: &[(i64, Digest)]) -> Result<Vec<bool>> {
        runs::contain(&self.inner, tx, asked).await
    }

    async fn foreign(&self, window: &WindowId<'_>, partitions: i32) -> Result<Vec<Foreign>> {
        foreign::summed(&self.inner, window, partitions).await
    }

    async fn foreign_heads(
        &self,
        window: &WindowId<'_>,
        partitions: i32,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        foreign::heads(&self.inner, window, partitions, after, limit).await
    }

    async fn given_up_keys(&self, lane: i64, scope: &str) -> Result<Vec<Key>> {
        packs::given_up_keys(&self.inner, lane, scope, false).await
    }

    async fn given_up_elsewhere(&self, lane: i64, scope: &str) -> Result<Vec<Key>> {
        packs::given_up_keys(&self.inner, lane, scope, true).await
    }

    async fn packs_elsewhere(
        &self,
        window: &WindowId<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        foreign::elsewhere(&self.inner, window, after, limit).await
    }

    async fn repack(&self, held: &Held, remove: &[i64], insert: &Repack<'_>) -> Result<bool> {
        packs::repack(&self.inner, held, remove, insert).await
    }

    async fn add_run(&self, held: &Held, rows: &[i64], run: &NewRun<'_>) -> Result<bool> {
        runs::add(&self.inner, held, rows, run).await
    }

    async fn run_blocks(
        &self,
        run: i64,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<RunBlock>> {
        merge::blocks(&self.inner, run, after, limit).await
    }

    async fn extend_run(&self, held: &Held, part: &RunPart<'_>) -> Result<bool> {
        merge::extend(&self.inner, held, part).await
    }

    async fn merge_runs(&self, held: &Held, merged: &Merged<'_>) -> Result<bool> {
        merge::merge(&self.inner, held, merged).await
    }

    async fn sweep_runs(&self, held: &Held, scope: &str, blocks: u32) -> Result<bool> {
        merge::sweep(&self.inner, held, scope, blocks).await
    }

    async fn forget_packs(
        &self,
        held: &Held,
        scope: &str,
        rows: &[i64],
        floor: Option<Floor>,
    ) -> Result<bool> {
        packs::forget(&self.inner, held, scope, rows, floor).await
    }

    async fn note_mode(&self, scope: &str, mode: MarkerMode) -> Result<()> {
        scopes::note_mode(&self.inner, scope, mode).await
    }

    async fn note_digest_key(&self, held: &Held, id: [u8; 8]) -> Result<Option<[u8; 8]>> {
        gone::note_digest_key(&self.inner, held, id).await
    }

    async fn forget_gone(&self, held: &Held, lane: i64, scope: &str, rows: &[i64]) -> Result<bool> {
        gone::forget(&self.inner, held, lane, scope, rows).await
    }

    async fn forget_retired(&self, group: &str, after: Option<Duration>) -> Result<Vec<String>> {
        retired::forget(&self.inner, group, after).await
    }

    async fn find_packed(&self, scope: &str, digest: Digest) -> Result<Vec<(LaneId, PackRow)>> {
        direct::find(&self.inner, scope, digest).await
    }

    async fn pack_direct(
        &self,
        tx: &mut Tx,
        lane: i64,
        offset: i64,
        pack: &NewPack<'_>,
        digest: Digest,
    ) -> Result<bool> {
        direct::pack_direct(&self.inner, tx, lane, offset, pack, digest).await
    }
}
