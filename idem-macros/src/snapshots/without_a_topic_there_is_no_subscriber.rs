async fn bill(event: OrderPlaced) -> Result<(), Error> {
    insert(event).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Event;
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(
        event: &OrderPlaced,
        _: ::idem::__private::Option<&::idem::__private::Event>,
    ) -> ::idem::__private::Result<::idem::__private::Key, ::idem::__private::KeyError> {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Result<(), ::idem::__private::Failure> {
        <Result<(), Error> as ::idem::__private::Returned>::finish(bill(event).await)
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler for this event, once for its key, without Kafka.
    ///
    /// # Errors
    /// As `idem::Processor::process`.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
