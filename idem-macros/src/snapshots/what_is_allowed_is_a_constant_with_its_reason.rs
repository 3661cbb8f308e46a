async fn bill(event: OrderPlaced) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const ALLOWED: ::idem::__private::Pairs = &[("timestamp_key", "one a second")];
    const POLICY: ::idem::__private::Policy = ::idem::__private::Policy::new()
        .missing_key(::idem::__private::MissingKey::DeadLetter);
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(
            ::idem::__private::Maybe::of(&event.created_at).key_part()?,
        )
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        ::idem::__private::finish::<Result<(), Error>>(bill(event).await)
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
