//! The contract, delegated to the modules that keep its parts.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use idem_runtime::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use idem_runtime::packed::{
    Digest, DigestKey, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock, RunPart,
    WindowId, WindowRow,
};
use idem_runtime::store::{
    Claim, Claimed, Fault, GivenUp, Instance, Opening, Reposition, Seal, Sealed, Settlement, Terms,
    Writer,
};
use idem_runtime::{
    DeadLetter, Key, Lends, LetterFilter, LetterNote, Marker, NewLetter, Registration, Result,
    Store,
};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::session::is_serializable;
use crate::{
    Postgres, Tx, attempts, claim, dead_letters, fault, foreign, forget, given_up, gone, instances,
    lanes, letters, markers, merge, packs, parking, retired, runs, scopes, seal, settle, slices,
    take,
};

impl Lends<PgConnection> for Postgres {
    fn lend(tx: &mut Tx) -> &mut PgConnection {
        tx.lend()
    }
}

impl Store for Postgres {
    type Tx = Tx;
    type Connection = PgConnection;
    const NAME: &'static str = "postgres";

    async fn check(&self) -> Result<Uuid> {
        self.check_store().await
    }

    async fn register(&self, registration: &Registration<'_>) -> Result<()> {
        scopes::register(&self.inner, registration).await
    }

    async fn keep_instance(&self, instance: &Instance<'_>) -> Result<Vec<String>> {
        instances::keep(&self.inner, instance).await
    }

    async fn lanes(&self, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
        lanes::of_topic(&self.inner, group, topic).await
    }

    async fn has_lanes(&self, group: &str) -> Result<bool> {
        lanes::has_any(&self.inner, group).await
    }

    async fn open_topics(&self, openings: &[Opening<'_>]) -> Result<()> {
        lanes::open_topics(&self.inner, openings).await
    }

    async fn take(&self, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
        take::take(&self.inner, lane, owner).await
    }

    async fn read(&self, held: &Held) -> Result<Option<LaneRow>> {
        lanes::read(&self.inner, held).await
    }

    async fn observe(&self, owner: &Owner, lanes: &[i64]) -> Result<Vec<Observed>> {
        lanes::observe(&self.inner, owner, lanes).await
    }

    async fn reposition(&self, held: &Held, to: &Reposition<'_>) -> Result<bool> {
        lanes::reposition(&self.inner, held, to).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        lanes::release(&self.inner, held).await
    }

    async fn begin(&self, writer: &Writer<'_>, terms: &Terms) -> Result<Tx> {
        let session = self.inner.pools.batch(writer, terms).await?;
        Ok(Tx::new(session, is_serializable(terms)))
    }

    async fn claim(
        &self,
        tx: &mut Tx,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
    ) -> Result<Claimed> {
        claim::claim(&self.inner, tx, writer, claims).await
    }

    async fn seal(
        &self,
        tx: &mut Tx,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Result<Sealed> {
        seal::seal(&self.inner, tx, writer, seal).await
    }

    async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await
    }

    async fn rollback(&self, tx: Tx) -> bool {
        tx.rollback().await
    }

    async fn marker(&self, scope: &str, key: &Key) -> Result<Option<Marker>> {
        markers::find(&self.inner, scope, key).await
    }

    async fn given_up(&self, tx: &mut Tx, keys: &[(&str, &Key)]) -> Result<Vec<Option<GivenUp>>> {
        given_up::given_up(&self.inner, tx, keys).await
    }

    async fn known(&self, tx: &mut Tx, keys: &[(&str, &Key)]) -> Result<Vec<Option<Marker>>> {
        markers::known(&self.inner, tx, keys).await
    }

    async fn keep_results(&self, tx: &mut Tx, results: &[(&str, &Key, &Value)]) -> Result<()> {
        markers::keep_results(&self.inner, tx, results).await
    }

    async fn take_back(&self, scope: &str, key: &Key, attempt: Uuid) -> Result<()> {
        markers::take_back(&self.inner, scope, key, attempt).await
    }

    async fn give_up(&self, tx: &mut Tx, held: &Held, letters: &[NewLetter<'_>]) -> Result<()> {
        dead_letters::give_up(&self.inner, tx, held, letters).await
    }

    async fn parked(
        &self,
        tx: &mut Tx,
        held: &Held,
        keys: &[(&str, &[u8])],
    ) -> Result<Vec<Option<u32>>> {
        parking::parked(&self.inner, tx, held, keys).await
    }

    async fn released(&self, held: &Held, from: i64, limit: u32) -> Result<Vec<DeadLetter>> {
        parking::released(&self.inner, held, from, limit).await
    }

    async fn unpark(&self, tx: &mut Tx, held: &Held, letters: &[i64]) -> Result<()> {
        parking::unpark(&self.inner, tx, held, letters).await
    }

    async fn note_attempt(&self, held: &Held, attempt: &AttemptRow) -> Result<bool> {
        attempts::note(&self.inner, held, attempt).await
    }

    async fn forget_attempts(
        &self,
        tx: &mut Tx,
        held: &Held,
        offsets: &[i64],
        calm: bool,
    ) -> Result<()> {
        attempts::forget(&self.inner, tx, held, offsets, calm).await
    }

    async fn cut(&self, held: &Held, slices: u16) -> Result<Option<Vec<i64>>> {
        slices::cut(&self.inner, held, slices).await
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
        letters::find(&self.inner, filter).await
    }

    async fn lock_letter(&self, tx: &mut Tx, id: i64) -> Result<Option<DeadLetter>> {
        settle::lock(&self.inner, tx, id).await
    }

    async fn settle_letter(&self, tx: &mut Tx, id: i64, settlement: &Settlement<'_>) -> Result<()> {
        settle::settle(&self.inner, tx, id, settlement).await
    }

    async fn history(&self, id: i64) -> Result<Vec<LetterNote>> {
        letters::history(&self.inner, id).await
    }

    async fn unforwarded(&self, lanes: &[i64], limit: u32) -> Result<Vec<DeadLetter>> {
        letters::unforwarded(&self.inner, lanes, limit).await
    }

    async fn forwarded(&self, letters: &[i64]) -> Result<()> {
        letters::forwarded(&self.inner, letters).await
    }

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
        floor: Option<i64>,
    ) -> Result<bool> {
        packs::forget(&self.inner, held, scope, rows, floor).await
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
        packs::find(&self.inner, scope, digest).await
    }

    async fn pack_direct(
        &self,
        tx: &mut Tx,
        lane: i64,
        offset: i64,
        pack: &NewPack<'_>,
        digest: Digest,
    ) -> Result<bool> {
        packs::pack_direct(&self.inner, tx, lane, offset, pack, digest).await
    }

    async fn forget_marker(&self, scope: &str, key: &Key) -> Result<bool> {
        forget::forget(&self.inner, scope, key).await
    }

    fn fault(error: &(dyn StdError + 'static)) -> Fault {
        fault::fault(error)
    }
}
