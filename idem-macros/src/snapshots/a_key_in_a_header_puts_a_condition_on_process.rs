async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
    insert(event, tx).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Header("id");
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(
        _: &OrderPlaced,
        source: ::idem::__private::Option<&::idem::__private::Event>,
    ) -> ::idem::__private::Result<::idem::__private::Key, ::idem::__private::KeyError> {
        ::idem::__private::key_of_header(source, "id")
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
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: &::idem::__private::Event) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl bill {
    /// Runs the handler for this event, once for its key, without Kafka.
    ///
    /// # Errors
    /// As `idem::Processor::process`.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed
    where
        for<'a> Self: ::idem::__private::KeyedByEvent,
    {
        ::idem::__private::process::<Self>(store, event).await
    }
}
