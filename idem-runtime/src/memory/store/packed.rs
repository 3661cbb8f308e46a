//! The part for packed markers.

use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::key::Key;
use crate::lane::{Held, LaneId};
use crate::marker::MarkerMode;
use crate::memory::Memory;
use crate::memory::faults::Point;
use crate::memory::state::State;
use crate::memory::tx::MemoryTx;
use crate::packed::{
    Digest, DigestKey, Floor, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock,
    RunPart, WindowId, WindowRow,
};
use crate::store::PackedMarkers;

impl PackedMarkers for Memory {
    async fn digest_key(&self) -> Result<DigestKey> {
        self.enter(Point::DigestKey).await?;
        Ok(self.digests())
    }

    async fn pack(
        &self,
        tx: &mut MemoryTx,
        held: &Held,
        packs: &[NewPack<'_>],
    ) -> Result<Option<SystemTime>> {
        self.enter(Point::Pack).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.pack(id, held, packs).map(Some)).await
    }

    async fn window(&self, window: &WindowId<'_>) -> Result<WindowRow> {
        self.enter(Point::Window).await?;
        let state = self.shared.lock();
        Ok(state.data.window(window, state.clock.now()))
    }

    async fn packs(&self, window: &WindowId<'_>, after: i64, limit: u32) -> Result<Vec<PackRow>> {
        self.enter(Point::Packs).await?;
        Ok(self.shared.lock().data.packs(window, after, limit))
    }

    async fn pack_heads(
        &self,
        window: &WindowId<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        self.enter(Point::Packs).await?;
        Ok(self.shared.lock().data.pack_heads(window, after, limit))
    }

    async fn packs_of(&self, window: &WindowId<'_>, rows: &[i64]) -> Result<Vec<PackRow>> {
        self.enter(Point::Packs).await?;
        Ok(self.shared.lock().data.packs_of(window, rows))
    }

    async fn runs(&self, window: &WindowId<'_>, but: &[i64], limit: u32) -> Result<Vec<Run>> {
        self.enter(Point::Runs).await?;
        Ok(self.shared.lock().data.runs(window, but, limit))
    }

    async fn runs_of(&self, runs: &[i64]) -> Result<Vec<Run>> {
        self.enter(Point::RunsOf).await?;
        Ok(self.shared.lock().data.runs_of(runs))
    }

    async fn in_runs(&self, tx: &mut MemoryTx, asked: &[(i64, Digest)]) -> Result<Vec<bool>> {
        self.enter(Point::InRuns).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.in_runs(id, asked).map(Some)).await
    }

    async fn foreign(&self, window: &WindowId<'_>, partitions: i32) -> Result<Vec<Foreign>> {
        self.enter(Point::Foreign).await?;
        Ok(self.shared.lock().data.foreign(window, partitions))
    }

    async fn foreign_heads(
        &self,
        window: &WindowId<'_>,
        partitions: i32,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        self.enter(Point::ForeignHeads).await?;
        Ok(self.shared.lock().data.foreign_heads(window, partitions, after, limit))
    }

    async fn packs_elsewhere(
        &self,
        window: &WindowId<'_>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PackRow>> {
        self.enter(Point::PacksElsewhere).await?;
        Ok(self.shared.lock().data.packs_elsewhere(window, after, limit))
    }

    async fn given_up_keys(&self, lane: i64, scope: &str) -> Result<Vec<Key>> {
        self.enter(Point::GivenUpKeys).await?;
        Ok(self.shared.lock().data.given_up_keys(lane, scope))
    }

    async fn given_up_elsewhere(&self, lane: i64, scope: &str) -> Result<Vec<Key>> {
        self.enter(Point::GivenUpKeys).await?;
        Ok(self.shared.lock().data.given_up_elsewhere(lane, scope))
    }

    async fn repack(&self, held: &Held, remove: &[i64], insert: &Repack<'_>) -> Result<bool> {
        self.enter(Point::Repack).await?;
        Ok(self.shared.change(|state| {
            let done = state.data.repack(held, remove, insert);
            state.counts.repacks += usize::from(done);
            done
        }))
    }

    async fn add_run(&self, held: &Held, rows: &[i64], run: &NewRun<'_>) -> Result<bool> {
        self.enter(Point::AddRun).await?;
        self.shared.change(|state| {
            let done = state.data.add_run(held, rows, run)?;
            state.counts.runs += usize::from(done);
            Ok(done)
        })
    }

    async fn run_blocks(
        &self,
        run: i64,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<RunBlock>> {
        self.enter(Point::RunBlocks).await?;
        Ok(self.shared.lock().data.run_blocks(run, after, limit))
    }

    async fn extend_run(&self, held: &Held, part: &RunPart<'_>) -> Result<bool> {
        self.enter(Point::ExtendRun).await?;
        self.shared.change(|state| state.data.extend_run(held, part))
    }

    async fn merge_runs(&self, held: &Held, merged: &Merged<'_>) -> Result<bool> {
        self.enter(Point::MergeRuns).await?;
        Ok(self.shared.change(|state| {
            let done = state.data.merge_runs(held, merged);
            state.counts.merges += usize::from(done);
            done
        }))
    }

    async fn sweep_runs(&self, held: &Held, scope: &str, _blocks: u32) -> Result<bool> {
        self.enter(Point::SweepRuns).await?;
        Ok(self.shared.change(|state| state.data.sweep_runs(held, scope)))
    }

    async fn forget_packs(
        &self,
        held: &Held,
        scope: &str,
        rows: &[i64],
        floor: Option<Floor>,
    ) -> Result<bool> {
        self.enter(Point::ForgetPacks).await?;
        Ok(self.shared.change(|state| {
            let done = state.data.forget_packs(held, scope, rows, floor);
            state.counts.forgets += usize::from(done);
            done
        }))
    }

    async fn forget_gone(&self, held: &Held, lane: i64, scope: &str, rows: &[i64]) -> Result<bool> {
        self.enter(Point::ForgetGone).await?;
        Ok(self.shared.change(|state| state.data.forget_gone(held, lane, scope, rows)))
    }

    async fn forget_retired(&self, group: &str, after: Option<Duration>) -> Result<Vec<String>> {
        self.enter(Point::ForgetRetired).await?;
        Ok(self.shared.until(|state| state.forget_retired(group, after)).await)
    }

    async fn note_mode(&self, scope: &str, mode: MarkerMode) -> Result<()> {
        self.enter(Point::NoteMode).await?;
        self.shared.change(|state| {
            let now = state.clock.now();
            state.data.note_mode(scope, mode, now);
        });
        Ok(())
    }

    async fn note_digest_key(&self, held: &Held, id: [u8; 8]) -> Result<Option<[u8; 8]>> {
        self.enter(Point::NoteDigestKey).await?;
        Ok(self.shared.change(|state| state.data.note_digest_key(held, id)))
    }

    async fn find_packed(&self, scope: &str, digest: Digest) -> Result<Vec<(LaneId, PackRow)>> {
        self.enter(Point::FindPacked).await?;
        self.shared.lock().data.find_packed(scope, digest)
    }

    async fn pack_direct(
        &self,
        tx: &mut MemoryTx,
        lane: i64,
        offset: i64,
        pack: &NewPack<'_>,
        digest: Digest,
    ) -> Result<bool> {
        self.enter(Point::PackDirect).await?;
        let id = tx.id();
        let step = |state: &mut State| state.pack_direct(id, lane, offset, pack, digest);
        self.shared.statement(id, step).await
    }
}
