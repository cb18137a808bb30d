"""Plain classifiers on an application's features, for comparison: what needs no language model.

scikit-learn's own with its defaults, nothing tuned. Numbers are scaled to mean 0 and variance 1, choices are one column
each. A wording of a suite stands in the place of the value, as in the prompt: no choice, so all of its columns are 0.

In a file of past decisions a missing number is the median and a column that says so (boosting takes it as it is), a
missing choice is a choice of its own, and a text is its words, weighted by TF-IDF.
"""

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

MISSING = "\x00missing"  # in the place of a choice; no file has such a one
MAX_WORDS = {"logistic": 2000, "boosting": 200}  # of a text column: the most frequent; trees need them as full columns
WORD = r"(?u)\w+|[^\w\s]"  # a sign is a word too, so that no text is without
MAX_ITERATIONS = 2000  # of logistic regression, whose default of 100 warns on rules that it separates


def as_shown(frame: pl.DataFrame, ruleset) -> pl.DataFrame:
    """The features as a prompt shows them: in a suite, the words of `shown_text` in the place of the value."""
    features = frame.select(ruleset.feature_names)
    if ruleset.is_observed:
        return features.with_columns(
            pl.col(feature.name).cast(pl.Float64).fill_null(float("nan"))
            if feature.kind == "number"
            else pl.col(feature.name).fill_null(MISSING)
            for feature in ruleset.features
        )
    if "shown_text" not in frame.columns:
        return features
    return features.with_columns(
        pl.when(frame["shown_feature"].eq_missing(name)).then(frame["shown_text"]).otherwise(pl.col(name)).alias(name)
        for name in ruleset.feature_names
        if features.schema[name] == pl.String
    )


def make_classifier(kind: str, ruleset, seed: int) -> Pipeline:
    """An unfitted classifier of `kind` (constant, logistic, boosting) on the columns of `as_shown`."""
    if ruleset.is_observed:
        return make_pipeline(_observed_columns(kind, ruleset), _classifiers(seed)[kind])
    numbers = [feature.name for feature in ruleset.features if feature.kind == "number"]
    choices = [feature for feature in ruleset.features if feature.kind == "choice"]
    one_hot = OneHotEncoder(
        categories=[list(feature.choices) for feature in choices], handle_unknown="ignore", sparse_output=False
    )
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), numbers), ("choices", one_hot, [feature.name for feature in choices])]
    )
    return make_pipeline(columns, _classifiers(seed)[kind])


def _classifiers(seed: int) -> dict:
    return {
        "constant": DummyClassifier(strategy="prior"),
        "logistic": LogisticRegression(max_iter=MAX_ITERATIONS),
        "boosting": HistGradientBoostingClassifier(random_state=seed),
    }


def _observed_columns(kind: str, ruleset) -> ColumnTransformer:
    """The columns of a file of cases as a classifier of `kind` takes them."""
    names = {of: [f.name for f in ruleset.features if f.kind == of] for of in ("number", "choice", "text")}
    listed = [[*feature.choices, MISSING] for feature in ruleset.features if feature.kind == "choice"]
    one_hot = OneHotEncoder(categories=listed, handle_unknown="ignore", sparse_output=False)
    imputed = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    columns = [
        ("numbers", "passthrough" if kind == "boosting" else imputed, names["number"]),
        ("choices", one_hot, names["choice"]),
    ]
    columns += [
        (f"words {i}", TfidfVectorizer(token_pattern=WORD, max_features=MAX_WORDS.get(kind, 1)), name)
        for i, name in enumerate(names["text"])
    ]
    return ColumnTransformer(columns, sparse_threshold=0 if kind == "boosting" else 0.3)


def fit(kind: str, ruleset, train: pl.DataFrame, seed: int) -> Pipeline:
    """A classifier of the label's place among `ruleset.labels`, fitted to the rows of `train`.

    Where all rows have one label there is nothing to fit, and every kind answers it.
    """
    place = {label: i for i, label in enumerate(ruleset.labels)}
    truth = train["label"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    kind = kind if train["label"].n_unique() > 1 else "constant"
    return make_classifier(kind, ruleset, seed).fit(as_shown(train, ruleset), truth)


def label_probabilities(classifier: Pipeline, ruleset, frame: pl.DataFrame) -> np.ndarray:
    """Float64 probabilities (N, L) of `ruleset.labels`, in their order; 0 for one that was not in training."""
    probabilities = np.zeros((len(frame), len(ruleset.labels)))
    probabilities[:, classifier.classes_] = classifier.predict_proba(as_shown(frame, ruleset))
    return probabilities
