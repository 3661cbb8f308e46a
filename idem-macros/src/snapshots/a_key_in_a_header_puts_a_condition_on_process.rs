async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<(), Error> {
    insert(event, tx).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::Message;
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(_: &OrderPlaced, source: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::key_of_header(source, "id")
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        let param1 = <&mut Db as ::idem::__private::Param<'_, Self>>::take(&mut call)?;
        ::idem::__private::finish::<Result<(), Error>>(bill(event, param1).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
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
