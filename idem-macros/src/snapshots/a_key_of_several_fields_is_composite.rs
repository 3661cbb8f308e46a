async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
    insert(event, tx).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = db::Store;
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "s";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Event;
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(
        event: &OrderPlaced,
        _: ::idem::__private::Option<&::idem::__private::Event>,
    ) -> ::idem::__private::Result<::idem::__private::Key, ::idem::__private::KeyError> {
        let [event1, event2] = [event; 2usize];
        ::idem::__private::Key::composite(
            &[
                ::idem::__private::key_part(&event1.tenant),
                ::idem::__private::key_part(&event2.order.id),
            ],
        )
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Result<(), ::idem::__private::Failure> {
        <Result<
            (),
            Error,
        > as ::idem::__private::Returned>::finish(
            bill(
                    event,
                    <&mut Db as ::idem::__private::Param<'_, Self>>::take(&mut call)?,
                )
                .await,
        )
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["a", "b"];
    fn decode(event: &::idem::__private::Event) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
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
