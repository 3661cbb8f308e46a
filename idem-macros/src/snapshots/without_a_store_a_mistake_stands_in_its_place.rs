pub async fn bill(event: &OrderPlaced, tx: &mut Db) -> Result<(), Error> {
    insert(event, tx).await
}
pub enum bill {}
::core::compile_error! {
    "the store is missing: name the database that the handler writes to, `store = \"postgres\"`"
}
impl ::idem::__private::Handler for bill {
    type Store = [(); ::core::compile_error! {
        "the first parameter is the event, owned: take it by value, and put connections and `&Context` after it"
    }];
    type Input = ::idem::__private::One<()>;
    const SCOPE: ::idem::__private::Text = "";
    fn needs(_: &mut ::idem::__private::Needs) {}
    fn key(_: &(), _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        loop {}
    }
    async fn handle(
        _: ::idem::__private::One<()>,
        _: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        loop {}
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &[];
    fn decode(_: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        loop {}
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    pub async fn process<S, E>(_: &S, _: E) -> ::idem::__private::Processed {
        loop {}
    }
}
