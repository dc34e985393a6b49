#!/usr/bin/env python3
"""Makes test/golden/fixtures-metrics: metrics as scikit-learn, scipy, seqeval, sacrebleu and rouge-score have them.

    .venv/bin/python -m pip install --target FOLDER scikit-learn==1.9.1 scipy==1.17.1 \
        seqeval==1.2.2 sacrebleu==2.6.0 rouge-score==0.1.2
    PYTHONPATH=FOLDER .venv/bin/python scripts/parity/make_metric_fixtures.py

One file for each kind of metric, of cases and what the package makes of them; nan is null.
"""

from __future__ import annotations

import json
import math
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from scipy import stats
from seqeval.metrics import classification_report
from seqeval.metrics import accuracy_score as token_accuracy
from seqeval.metrics import f1_score as entity_f1
from seqeval.metrics import precision_score as entity_precision
from seqeval.metrics import recall_score as entity_recall
from sklearn import metrics

FOLDER = Path(__file__).resolve().parents[2] / "test" / "golden" / "fixtures-metrics"


def classification(rng: np.random.Generator) -> dict:
    def case(name: str, classes: int, truth, predicted) -> dict:
        truth, predicted = [int(x) for x in truth], [int(x) for x in predicted]
        labels = list(range(classes))
        parts = metrics.precision_recall_fscore_support(truth, predicted, labels=labels)
        result = {
            "matrix": metrics.confusion_matrix(truth, predicted, labels=labels).tolist(),
            "accuracy": metrics.accuracy_score(truth, predicted),
            "macroF1": metrics.f1_score(truth, predicted, average="macro"),
            "matthews": metrics.matthews_corrcoef(truth, predicted),
            "byClass": [
                dict(zip(["precision", "recall", "f1", "support"], (float(x) for x in column))) for column in zip(*parts)
            ],
        }
        if classes == 2:
            result["binaryF1"] = [metrics.f1_score(truth, predicted, pos_label=c, labels=labels) for c in labels]
        return {"name": name, "classes": classes, "truth": truth, "predicted": predicted, "expected": result}

    def noisy(classes: int, n: int, right: float):
        truth = rng.integers(classes, size=n)
        return truth, np.where(rng.random(n) < right, truth, rng.integers(classes, size=n))

    return {
        "cases": [
            case("two classes", 2, *noisy(2, 50, 0.7)),
            case("two classes, worse than chance", 2, [0, 0, 1, 1, 1], [1, 1, 0, 0, 1]),
            case("five classes", 5, *noisy(5, 80, 0.5)),
            case("rare classes", 4, [0] * 20 + [1, 2, 3], [0] * 18 + [1, 2, 1, 2, 0]),
            case("a class never predicted", 3, [0, 1, 2, 2, 1, 0], [0, 1, 1, 0, 1, 0]),
            case("a class that no row has", 3, [0, 1, 0, 1], [0, 2, 0, 1]),
            case("a class neither there nor predicted", 4, [0, 1, 3, 3], [0, 1, 3, 0]),
            case("only one predicted", 2, [0, 1, 0, 1], [0, 0, 0, 0]),
            case("only one class, all right", 2, [1, 1, 1], [1, 1, 1]),
            case("only one class, all wrong", 2, [0, 0], [1, 1]),
            case("one class in all", 1, [0, 0], [0, 0]),
            case("one row", 3, [2], [2]),
            case("all right", 3, [0, 1, 2, 1], [0, 1, 2, 1]),
        ]
    }


def correlation(rng: np.random.Generator) -> dict:
    def case(name: str, truth, predicted) -> dict:
        truth, predicted = [float(x) for x in truth], [float(x) for x in predicted]
        few = len(truth) < 2
        values = [math.nan if few else float(f(truth, predicted)[0]) for f in (stats.pearsonr, stats.spearmanr)]
        pearson, spearman = [None if math.isnan(x) else x for x in values]
        return {"name": name, "truth": truth, "predicted": predicted, "expected": {"pearson": pearson, "spearman": spearman}}

    x = rng.normal(size=40)
    grades = rng.integers(6, size=60)
    return {
        "cases": [
            case("noise", x, x + rng.normal(size=40)),
            case("grades with ties", grades, np.round(grades + rng.normal(size=60))),
            case("monotone, not linear", x, np.exp(3 * x)),
            case("against each other", [1, 2, 3, 4], [4, 3, 2, 1]),
            case("two rows", [1, 5], [2, 7]),
            case("one row", [1], [2]),
            case("predictions all the same", [1, 2, 3], [0.1, 0.1, 0.1]),
            case("truths all the same", [0.3, 0.3, 0.3], [1, 2, 3]),
            case("far from zero", 1e9 + x, x + rng.normal(size=40)),
            case("huge", 1e200 * x, 1e180 * (x + rng.normal(size=40))),
            case("tiny", 1e-200 * x, 1e-190 * (x + rng.normal(size=40))),
            case("zeros with both signs", [0.0, -0.0, 1, 2], [0, 1, 2, 2]),
        ]
    }


def entities(rng: np.random.Generator) -> dict:
    def case(name: str, truth, predicted) -> dict:
        report = classification_report(truth, predicted, output_dict=True, zero_division=0)
        by_type = {
            kind: {"precision": s["precision"], "recall": s["recall"], "f1": s["f1-score"], "support": int(s["support"])}
            for kind, s in report.items()
            if not kind.endswith(" avg")
        }
        result = {
            "accuracy": token_accuracy(truth, predicted),
            "precision": float(entity_precision(truth, predicted)),
            "recall": float(entity_recall(truth, predicted)),
            "f1": float(entity_f1(truth, predicted)),
            "byType": by_type,
        }
        return {"name": name, "truth": truth, "predicted": predicted, "expected": result}

    def random_rows(tags: str, kinds: list[str], rows: int):
        def row(length: int) -> list[str]:
            picked = rng.choice(list(tags), size=length)
            return ["O" if t == "O" else f"{t}-{rng.choice(kinds)}" for t in picked]

        truth = [row(int(n)) for n in rng.integers(1, 12, size=rows)]
        predicted = [[label if rng.random() < 0.7 else row(1)[0] for label in r] for r in truth]
        return truth, predicted

    return {
        "cases": [
            case("IOB2", [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]], [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-ORG"]]),
            case("too short", [["O", "B-PER", "I-PER", "I-PER"]], [["O", "B-PER", "I-PER", "O"]]),
            case("begins with I", [["O", "B-PER", "I-PER"]], [["O", "I-PER", "I-PER"]]),
            case("another type inside", [["B-PER", "I-PER", "I-PER"]], [["B-PER", "I-LOC", "I-PER"]]),
            case("one after the other", [["B-PER", "B-PER", "I-PER"]], [["B-PER", "I-PER", "I-PER"]]),
            case("IOBES", [["S-LOC", "B-PER", "I-PER", "E-PER"]], [["S-LOC", "B-PER", "I-PER", "I-PER"]]),
            case("E and S odd", [["E-PER", "E-PER", "I-PER", "S-PER", "I-PER"]], [["B-PER", "E-PER", "E-PER", "S-PER", "S-PER"]]),
            case("rows end entities", [["O", "B-PER"], ["I-PER", "O"]], [["O", "B-PER"], ["I-PER", "O"]]),
            case("no type", [["B", "I", "O", "B"]], [["B", "O", "O", "B"]]),
            case("types with hyphens", [["B-A-B", "I-A-B", "B-A"]], [["B-A-B", "I-A-B", "B-A-B"]]),
            case("nothing predicted", [["B-PER", "O"]], [["O", "O"]]),
            case("nothing there", [["O", "O"]], [["O", "B-PER"]]),
            case("IOB2 at random", *random_rows("OOBBI", ["PER", "LOC"], 12)),
            case("IOBES at random", *random_rows("OBIES", ["PER", "LOC"], 12)),
        ]
    }


PAIRS = [
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("the cat sat on the mat", "The cat sat on the mat."),
    ("", "Nothing was said."),
    ("Something was said.", ""),
    ("", ""),
    ("   \n", "blanks only"),
    ("yes", "yes"),
    ("yes.", "yes"),
    ("It cost $1,234.56, not 1.234,56 €.", "It cost $1,234.56, not 1.234,56€."),
    ("Version 2.0.1-beta, 10-12 May; 3-4.", "Version 2.0.1 - beta, 10 - 12 May; 3-4."),
    ("a 'quoted' \"word\" &amp; &quot;more&quot; &lt;b&gt; &amp;lt;", "a 'quoted' \"word\" & \"more\" <b> <"),
    ("a line\nand ano-\nther one\r\nand a last-\n", "a line and another one and a last"),
    ("<skipped>this<skipped> is", "this is"),
    ("Straße, naïve café — “quotes” … 東京は晴れ。", "Strasse, naive cafe - \"quotes\" ... 東京は雨。"),
    ("\u0130stanbul \u212aelvin \u00c0 la carte", "Istanbul Kelvin a la carte"),
    ("emoji 👍🏽, 👍. 👍,👍", "emoji 👍🏽 , 👍 . 👍 , 👍"),
    ("no\u00a0break \u2003wide\u3000 \u200bzero\ufeffwidth\u0085next\u001cfile", "no break wide zero width next file"),
    ("the the the the the the the", "The cat is on the mat the"),
    ("John likes Mary and Mary likes John", "Mary likes John and John likes Mary"),
    ("...,,,---!!!???", "... , , , --- !!! ???"),
    ("{a}[b](c)<d>|e~f`g^h_i=j+k*l&m%n#o@p\\q/r:s;t", "{ a } [ b ] ( c ) < d > | e"),
    ("1 ٢ ३ ４ 5.٢ ٢.5 ४,४", "1 2 3 4 5.2 2.5 4,4"),
    ("$& $1 $$ $`", "$& $1 $$ $`"),
    ("__proto__ constructor toString", "__proto__ constructor toString"),
    ("Rain is on its way to Sydney this Sunday.", " Rain is on its way to Sydney this Sunday. Take an umbrella."),
    ("hypothesis much longer than its reference is here for the penalty that is none", "hypothesis"),
]


def texts(rng: np.random.Generator) -> dict:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    tokenize = Tokenizer13a()
    pieces = list("aB1 2.,-;'\"&\n é東👍\u00a0\u0085\u2028<>/") + ["the ", "cat ", "&quot;", "-\n", "3.5", " ."]

    def random_text(length: int) -> str:
        return "".join(rng.choice(pieces, size=length))

    def noisy(text: str) -> str:
        return "".join(c if rng.random() < 0.8 else random_text(1) for c in text)

    odd = [random_text(int(n)) for n in rng.integers(0, 30, size=40)]
    pairs = [*PAIRS, *((noisy(text), text) for text in odd)]

    def corpus(name: str, pairs: list[tuple[str, str]]) -> dict:
        metric = BLEU()
        score = metric.corpus_score([p for p, _ in pairs], [[r for _, r in pairs]])
        rouge = [scorer.score(r, p)["rougeL"].fmeasure for p, r in pairs]
        return {
            "name": name,
            "predicted": [p for p, _ in pairs],
            "truth": [r for _, r in pairs],
            "expected": {
                "bleu": {
                    "score": score.score,
                    "precisions": score.precisions,
                    "brevityPenalty": score.bp,
                    "predictionLength": score.sys_len,
                    "referenceLength": score.ref_len,
                    "signature": str(metric.get_signature()),
                },
                "rougeL": sum(rouge) / len(rouge),
            },
        }

    return {
        "tokens": [[text, tokenize(text.rstrip()).split()] for text in sorted({t for pair in pairs for t in pair})],
        "cases": [
            *(corpus(f"{p!r} for {r!r}", [(p, r)]) for p, r in PAIRS),
            corpus("all of them", PAIRS),
            corpus("at random", pairs[len(PAIRS) :]),
            corpus("short answers", [("yes", "yes"), ("no", "yes"), ("maybe so", "maybe not")]),
            corpus("nothing said", [("", "one"), ("", "two")]),
        ],
    }


def write(name: str, packages: list[str], cases: dict) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    facts = {"versions": {package: version(package) for package in packages}, **cases}
    (FOLDER / f"{name}.json").write_text(json.dumps(facts, allow_nan=False, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(20)
    write("classification", ["scikit-learn"], classification(rng))
    write("correlation", ["scipy"], correlation(rng))
    write("entities", ["seqeval"], entities(rng))
    write("texts", ["sacrebleu", "rouge-score"], texts(rng))
