async fn charge(event: OrderPlaced) -> Result<(), Error> {
    remote(event).await
}
enum charge {}
impl ::idem::__private::Handler for charge {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "charge";
    const POLICY: ::idem::__private::Policy = ::idem::__private::Policy::new()
        .unknown_end(::idem::__private::UnknownEnd::Probe);
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn probe(
        event: &OrderPlaced,
        begun: &::idem::__private::Begun,
    ) -> ::idem::__private::Asked {
        ::idem::__private::probed(was_charged(event, begun).await)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(charge(event).await)
    }
}
impl ::idem::__private::KeyedByEvent for charge {}
impl charge {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
