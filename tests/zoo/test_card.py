import copy
import dataclasses
import datetime
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xatmo.errors import CardError
from xatmo.zoo import ModelKey, card, parse_card, read_card, tables, write_card

GONE = object()


def changed(values, path, value):
    """Return a copy with the value at a path such as ("levels", 0, "mean") replaced."""
    values = copy.deepcopy(values)
    inner = values
    for step in path[:-1]:
        inner = inner[step]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return values


def test_a_valid_card_is_read_into_plain_values(values):
    card = parse_card(values(default=True))
    assert card.name == "tiny"
    assert card.default is True
    assert card.capabilities == ("embed", "distance")
    assert card.inputs[1].quantity == "atmosphere_relative_vorticity"
    assert [(level.level, level.trained) for level in card.levels] == [
        ("10 m", True),
        ("850 hPa", False),
    ]
    assert card.levels[0].std == (2.9e-5, 5.1e-5)
    assert card.normalization.alpha == 0.2
    assert card.grid.patch == (32, 32)
    assert card.grid.halo == 47
    assert card.time.lags == (6, 12, 18)
    assert card.layers.features == {"block3": 128, "block2": 64}
    assert card.distance.alpha == {"block3": 1.23}
    assert card.scores["ordering"]["6 h"] == 0.51


def test_what_is_optional_may_be_absent(values):
    contents = values(capabilities=["infill"], normalization={"kind": "zscore"})
    del contents["normalization"]["alpha"]
    for level in contents["levels"]:
        del level["log_mean"], level["log_std"], level["trained"]
    for key in ("network", "time", "layers", "distance", "training", "scores"):
        del contents[key]
    del contents["grid"]["latitude_limit"], contents["grid"]["gaussian"]
    del contents["weights"]["urls"]
    contents["grid"]["halo"] = "global"
    card = parse_card(contents)
    assert card.default is False
    assert card.levels[0].trained
    assert card.levels[0].log_mean is None
    assert card.time is card.layers is card.distance is card.grid.latitude_limit is None
    assert card.grid.halo == "global"
    assert card.weights.urls == ()
    assert parse_card(tomllib.loads(card.to_toml())) == card


WRONG = [
    (("name",), GONE, r"'name' is missing"),
    (("name",), 3, r"(?s)'name' has a value.*name = 3.*letters, digits"),
    (("name",), "a/b", r"'name' has a value"),
    (("name",), "a@1", r"'name' has a value"),
    (("version",), "new", r"(?s)'version'.*'1\.0\.0'"),
    (("version",), "1.0\n", r"'version'"),
    (("title",), " ", r"(?s)'title'.*not empty"),
    (("architecture",), GONE, r"'architecture' is missing"),
    (("capabilities",), "embed", r"(?s)'capabilities'.*a list"),
    (("capabilities",), [], r"(?s)'capabilities'.*at least 1"),
    (("capabilities",), ["fly"], r"(?s)'capabilities'.*'embed', 'distance'"),
    (("default",), 1, r"(?s)'default'.*true or false"),
    (("licence",), GONE, r"'licence' is missing"),
    (("license",), "MIT", r"(?s)'license' is not part.*did you mean licence"),
    (("network",), [1], r"(?s)'network'.*a table"),
    (("network", "not a name"), 1, r"(?s)network\.not a name.*Python argument"),
    (("inputs",), GONE, r"(?s)'inputs' is missing.*\[\[inputs\]\]"),
    (("inputs",), [], r"(?s)'inputs'.*at least one table"),
    (("inputs",), {"quantity": "u"}, r"(?s)'inputs'.*at least one table"),
    (("inputs", 1, "units"), GONE, r"'inputs\[1\]\.units' is missing"),
    (("inputs", 0, "unit"), "m", r"'inputs\[0\]\.unit' is not part"),
    (("levels",), GONE, r"'levels' is missing"),
    (("levels", 0, "level"), 850, r"(?s)'levels\[0\]\.level'.*level = 850"),
    (("levels", 1, "level"), "10 m", r"(?s)'levels'.*every level once"),
    (("levels", 0, "trained"), "yes", r"'levels\[0\]\.trained'"),
    (("levels", 0, "mean"), [1.0], r"(?s)'levels\[0\]\.mean'.*exactly 2"),
    (("levels", 0, "mean"), [1.0, float("nan")], r"(?s)'levels\[0\]\.mean'.*finite"),
    (("levels", 0, "mean"), [1.0, True], r"(?s)'levels\[0\]\.mean'.*finite"),
    (("levels", 1, "std"), [1.0, 0.0], r"(?s)'levels\[1\]\.std'.*above 0"),
    (("levels", 1, "std"), [1.0, -1.0], r"(?s)'levels\[1\]\.std'.*above 0"),
    (("levels", 1, "std"), [1.0, float("inf")], r"'levels\[1\]\.std'"),
    (("levels", 0, "log_std"), GONE, r"'levels\[0\]\.log_std' is missing"),
    (("normalization",), GONE, r"(?s)'normalization' is missing.*\[normalization\]"),
    (("normalization", "kind"), "minmax", r"(?s)kind.*'signlog', 'zscore'"),
    (("normalization", "alpha"), GONE, r"'normalization\.alpha' is missing"),
    (("normalization", "alpha"), -1, r"'normalization\.alpha' has a value"),
    (("normalization", "kind"), "zscore", r"'normalization\.alpha' is not part"),
    (("grid",), GONE, r"'grid' is missing"),
    (("grid",), 1, r"(?s)'grid'.*a table"),
    (("grid", "spacing"), [2.0, 0.7], r"(?s)'grid\.spacing'.*smallest"),
    (("grid", "spacing"), 1.0, r"'grid\.spacing'"),
    (("grid", "patch"), [32], r"(?s)'grid\.patch'.*exactly 2"),
    (("grid", "patch"), [32.0, 32], r"(?s)'grid\.patch'.*whole number"),
    (("grid", "stride"), 0, r"(?s)'grid\.stride'.*at least 1"),
    (("grid", "halo"), GONE, r"'grid\.halo' is missing"),
    (("grid", "halo"), "all", r"(?s)'grid\.halo'.*'global', or a whole number"),
    (("grid", "halo"), -1, r"'grid\.halo'"),
    (("grid", "latitude_limit"), 91, r"(?s)latitude_limit.*up to 90"),
    (("grid", "gausian"), True, r"(?s)gausian.*did you mean gaussian"),
    (("time", "step"), "six hours", r"(?s)'time\.step'.*'6h'"),
    (("time", "step"), "0h", r"'time\.step'"),
    (("time", "lags"), [12, 6], r"(?s)'time\.lags'.*rising"),
    (("time", "lags"), [6, 6], r"(?s)'time\.lags'.*once"),
    (("time", "lags"), [6.5], r"'time\.lags'"),
    (("layers",), GONE, r"(?s)'layers' is missing.*'embed' needs"),
    (("layers", "names"), [], r"'layers\.names'"),
    (("layers", "names"), ["block3", "block3"], r"(?s)'layers\.names'.*once"),
    (("layers", "stride"), GONE, r"'layers\.stride' is missing"),
    (("layers", "stride", "block2"), GONE, r"'layers\.stride\.block2' is missing"),
    (("layers", "stride", "block9"), 8, r"'layers\.stride\.block9' is not part"),
    (("layers", "features", "block2"), 0, r"'layers\.features\.block2'"),
    (("distance", "space"), GONE, r"'distance\.space' is missing"),
    (("distance", "alpha"), {}, r"(?s)'distance\.alpha'.*block3, block2"),
    (("distance", "alpha", "block9"), 1.0, r"'distance\.alpha\.block9' is not part"),
    (("distance", "alpha", "block3"), 0, r"'distance\.alpha\.block3'"),
    (("weights",), GONE, r"'weights' is missing"),
    (("weights", "file"), "../w.safetensors", r"(?s)'weights\.file'.*bare"),
    (("weights", "file"), "weights.pt", r"(?s)'weights\.file'.*safetensors"),
    (("weights", "sha256"), "abc", r"(?s)'weights\.sha256'.*64 hexadecimal"),
    (("weights", "sha256"), "A" * 64, r"(?s)'weights\.sha256'.*lower case"),
    (("weights", "size"), 0, r"'weights\.size'"),
    (("weights", "urls"), ["models/x"], r"(?s)'weights\.urls'.*https://"),
    (("weights", "urls"), "https://a.b/c", r"'weights\.urls'"),
    (("training",), "lots", r"'training'"),
    (("scores",), [1], r"'scores'"),
    (("extra",), {}, r"'extra' is not part of a card"),
]


@pytest.mark.parametrize(
    ("path", "value", "match"),
    WRONG,
    ids=[f"{'.'.join(map(str, path))}-{i}" for i, (path, _, _) in enumerate(WRONG)],
)
def test_a_slip_of_the_pen_is_named(values, path, value, match):
    contents = changed(values(), path, value)
    with pytest.raises(CardError, match=match) as caught:
        parse_card(contents, source="models/tiny/card.toml")
    assert "models/tiny/card.toml" in caught.value.problem
    assert "help('xatmo.zoo.card')" in caught.value.hint


def test_distance_needs_layers(values):
    contents = values(capabilities=["infill"])
    del contents["layers"]
    with pytest.raises(CardError, match=r"since there is a \[distance\]"):
        parse_card(contents)


def test_downscale_needs_a_factor_and_a_finite_halo(values):
    able = values(capabilities=["downscale"], downscale={"factor": 4})
    card = parse_card(able)
    assert (card.downscale.factor, card.downscale.statics) == (4, ())
    assert parse_card(tomllib.loads(card.to_toml())) == card
    with pytest.raises(CardError, match=r"'downscale' needs a factor"):
        parse_card(changed(able, ("downscale",), GONE))
    with pytest.raises(CardError, match=r"(?s)factor = 1.*at least 2"):
        parse_card(changed(able, ("downscale", "factor"), 1))
    with pytest.raises(CardError, match=r"(?s)statics.*'land_area_fraction'"):
        parse_card(changed(able, ("downscale", "statics"), ["altitude"]))
    with pytest.raises(CardError, match=r"(?s)'downscale'.*a finite halo"):
        parse_card(changed(able, ("grid", "halo"), "global"))


def test_log_constants_belong_to_signlog(values):
    contents = values()
    contents["normalization"] = {"kind": "zscore"}
    with pytest.raises(CardError, match=r"'levels\[0\]\.log_mean' is not part"):
        parse_card(contents)


def _documented():
    text = card.__doc__.split("::", 1)[1].replace("64 hexadecimal digits", "0" * 64)
    return tomllib.loads(text)


def test_every_key_of_the_schema_is_in_the_docstring():
    # Networks with [[fields]] and [box], or [leads], have these where others have more.
    fields = ("fields", "box", "leads")
    schema = _documented()
    grids = {key: value for key, value in schema.items() if key not in fields}
    # A place on the globe is told of networks with [leads] alone.
    place = {key: schema["grid"].pop(key) for key in ("latitude", "longitude")}
    assert parse_card(grids).name == "atmodist-small-1deg"
    other = {k: v for k, v in schema.items() if k not in ("inputs", "levels")}
    other["normalization"] = {"kind": "zscore"}
    regional = {**other, "grid": {**other["grid"], **place}}
    told = parse_card({key: value for key, value in regional.items() if key != "box"})
    assert told.grid.latitude == (48, 24)
    assert told.fields[0].levels[0].variable == "10m_u"
    assert (told.leads.step, told.leads.longest) == ("6h", 162)
    del other["leads"], other["fields"][0]["levels"][0]["variable"]
    boxes = parse_card(other)
    assert boxes.fields[0].levels[0].slot == 0
    assert boxes.box.local == "local.safetensors"
    keys = [f.name for f in dataclasses.fields(card.Card) if f.name != "folder"]
    assert set(keys) == set(schema)


# --- Networks that are told how far ahead to look -------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        {"latitude": [48.0, 24.0]},
        {"latitude": [24.0, 48.0], "longitude": [120.0, 150.0]},
        {"latitude": [48.0, 24.0], "longitude": [150.0, 120.0]},
    ],
)
def test_a_region_has_two_edges_each_way_in_order(lead_values, place):
    lead_values["grid"] |= place
    with pytest.raises(CardError, match="itude"):
        parse_card(lead_values)


@pytest.fixture
def lead_values(box_values):
    """Contents of a valid card of such a network."""
    contents = box_values(leads={"step": "6h", "shortest": 6, "longest": 162})
    del contents["box"]
    for field in contents["fields"]:
        for level in field["levels"]:
            level["variable"] = f"{field['name']}_{level['level'].replace(' ', '')}"
    contents["grid"]["northward"] = True
    return contents


def test_a_card_with_leads_is_read_into_plain_values(lead_values):
    card_ = parse_card(lead_values)
    assert card_.box is None
    assert (card_.leads.shortest, card_.leads.longest) == (6, 162)
    assert card_.grid.northward
    assert card_.fields[1].levels[0].variable == "t_850hPa"
    assert parse_card(tomllib.loads(card_.to_toml())) == card_


LEADS = [
    (("box",), {"step": "6h", "ahead": 1}, r"(?s)'box'.*no \[box\] beside \[leads\]"),
    (("leads", "step"), GONE, r"'leads\.step' is missing"),
    (("leads", "step"), "6", r"(?s)'leads\.step'.*'6h'"),
    (("leads", "longest"), 3, r"(?s)'leads\.longest'.*at least the shortest"),
    (("leads", "steps"), 3, r"'leads\.steps' is not part"),
    (("leads",), GONE, r"'fields\[0\]\.levels\[0\]\.variable' is not part|\[box\]"),
    (
        ("fields", 0, "levels", 0, "variable"),
        GONE,
        r"levels\[0\]\.variable' is missing",
    ),
    (("fields", 1, "levels", 0, "variable"), "u_10m", r"(?s)'fields'.*variable once"),
    (("grid", "northward"), "yes", r"(?s)'grid\.northward'.*true or false"),
]


@pytest.mark.parametrize(("path", "value", "match"), LEADS)
def test_a_slip_of_the_pen_in_a_card_with_leads(lead_values, path, value, match):
    with pytest.raises(CardError, match=match):
        parse_card(changed(lead_values, path, value))


def test_leads_need_fields(values):
    leads = {"step": "6h", "shortest": 6, "longest": 162}
    with pytest.raises(CardError, match=r"since there is a \[leads\]"):
        parse_card(values(leads=leads))


# --- Networks that read boxes ---------------------------------------------------------


def test_a_card_of_boxes_is_read_into_plain_values(box_values):
    card_ = parse_card(box_values())
    assert [(f.name, f.quantity, f.units) for f in card_.fields] == [
        ("u", "eastward_wind", "m s-1"),
        ("t", "air_temperature", "K"),
    ]
    assert [(lv.level, lv.slot, lv.trained) for lv in card_.fields[0].levels] == [
        ("10 m", 0, True),
        ("sigma 0.95", 0, False),
        ("850 hPa", 1, True),
    ]
    assert card_.fields[0].levels[0].std == (4.0,)
    assert card_.fields[0].levels[2].mean == (1.0,) * 12
    assert card_.fields[1].levels[0].mean is None
    assert card_.box == card.Box("6h", 1)
    assert card_.inputs == card_.levels == ()


def test_a_default_for_some_capabilities(box_values):
    card_ = parse_card(box_values())
    assert card_.is_default("forecast")
    assert not card_.is_default("infill")
    # What a model cannot do it is no default for.
    assert not parse_card(box_values(default_for=["embed"])).is_default("embed")
    assert parse_card(box_values(default=True, default_for=[])).is_default("infill")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"box": {"step": "1h", "ahead": 3, "local": "local.safetensors"}},
        {"capabilities": ["infill", "forecast", "interpolate", "attention"]},
    ],
    ids=["plain", "local", "able"],
)
def test_written_cards_of_boxes_read_back_equal(models, box_values, changes):
    if "local" in changes.get("box", {}):
        changes["box"]["local_sha256"] = "0" * 64
    first = write_card(models / "boxes", box_values(**changes))
    again = write_card(models / "boxes", tomllib.loads(first.to_toml()))
    assert again == first == read_card(models / "boxes")
    assert again.network == box_values()["network"]


WRONG_BOXES = [
    (("box",), GONE, r"(?s)'box' is missing.*\[box\]"),
    (("fields",), GONE, r"(?s)'inputs' is missing"),
    (("fields",), [], r"(?s)'fields'.*at least one table"),
    (("fields", 1, "name"), "u", r"(?s)'fields'.*every name once"),
    (("fields", 0, "name"), "1 u", r"(?s)'fields\[0\]\.name'.*letters, digits"),
    (("fields", 0, "quantity"), GONE, r"'fields\[0\]\.quantity' is missing"),
    (("fields", 0, "units"), "", r"'fields\[0\]\.units'"),
    (("fields", 0, "width"), 3, r"'fields\[0\]\.width' is not part"),
    (("fields", 1, "levels"), [], r"'fields\[1\]\.levels'"),
    (("fields", 0, "levels", 1, "level"), "10 m", r"(?s)levels.*every level once"),
    (("fields", 0, "levels", 0, "slot"), -1, r"(?s)slot.*at least 0"),
    (("fields", 0, "levels", 0, "slot"), GONE, r"slot' is missing"),
    (("fields", 0, "levels", 0, "std"), GONE, r"mean and std: one number each"),
    (("fields", 0, "levels", 0, "std"), [0.0], r"(?s)std.*above 0"),
    (("fields", 0, "levels", 0, "std"), [1.0] * 12, r"one number each, or one a month"),
    (("fields", 0, "levels", 2, "mean"), [1.0] * 11, r"one a month"),
    (("fields", 0, "levels", 2, "mean"), [], r"at least 1"),
    (("fields", 0, "levels", 2, "trained"), 1, r"(?s)trained.*true or false"),
    (("inputs",), [{"quantity": "x", "units": "m"}], r"no \[\[inputs\]\]"),
    (("levels",), [], r"no \[\[inputs\]\] and \[\[levels\]\] beside"),
    (("box", "step"), "6", r"(?s)'box\.step'.*'6h'"),
    (("box", "ahead"), 0, r"(?s)'box\.ahead'.*at least 1"),
    (("box", "ahed"), 1, r"did you mean ahead"),
    (("box", "local"), "../x.safetensors", r"(?s)'box\.local'.*bare"),
    (("box", "local"), "x.safetensors", r"'box\.local_sha256' is missing"),
    (("box", "local_sha256"), "0" * 64, r"'box\.local_sha256' is not part"),
    (("default_for",), "forecast", r"(?s)'default_for'.*a list"),
    (("default_for",), ["fly"], r"(?s)'default_for'.*'embed', 'distance'"),
    (("normalization", "kind"), "none", r"(?s)kind.*'zscore'"),
]


@pytest.mark.parametrize(
    ("path", "value", "match"),
    WRONG_BOXES,
    ids=[f"{'.'.join(map(str, p))}-{i}" for i, (p, _, _) in enumerate(WRONG_BOXES)],
)
def test_a_slip_of_the_pen_in_boxes_is_named(box_values, path, value, match):
    with pytest.raises(CardError, match=match) as caught:
        parse_card(changed(box_values(), path, value), source="models/boxes/card.toml")
    assert "models/boxes/card.toml" in caught.value.problem


def test_a_box_needs_fields(values):
    with pytest.raises(CardError, match=r"since there is a \[box\]"):
        parse_card(values(box={"step": "6h", "ahead": 1}))


def test_written_cards_read_back_equal(models, values):
    first = write_card(models / "tiny", values(default=True))
    assert first.folder == models / "tiny"
    second = write_card(models / "tiny" / "card.toml", tomllib.loads(first.to_toml()))
    assert second == first
    assert read_card(models / "tiny") == first
    assert [file.name for file in (models / "tiny").iterdir()] == ["card.toml"]


def test_written_cards_take_numpy_numbers(models, values):
    contents = values()
    contents["levels"][0]["mean"] = np.array([0.5, 0.25])
    contents["weights"]["size"] = np.int64(12)
    contents["scores"] = {"ordering": np.float32(0.5)}
    card = write_card(models / "tiny", contents)
    assert card.levels[0].mean == (0.5, 0.25)
    assert card.weights.size == 12
    assert card.scores == {"ordering": 0.5}


def test_a_bad_card_is_not_written_over_a_good_one(models, values):
    good = write_card(models / "tiny", values())
    with pytest.raises(CardError, match=r"weights\.size"):
        write_card(models / "tiny", values(weights={"size": -1}))
    with pytest.raises(TypeError, match="no form for None"):
        write_card(models / "tiny", values(title=None))
    assert read_card(models / "tiny") == good


def test_the_name_is_the_folder_s(models, values):
    with pytest.raises(CardError, match=r"(?s)'name'.*folder, 'other'"):
        write_card(models / "other", values("tiny"))
    assert not (models / "other").exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"name = \n", r"(?s)cannot be read.*line 1"),
        (b"name = 'a'\nname = 'b'", r"(?s)cannot be read.*overwrite"),
        (b"\xff\xfe", r"(?s)cannot be read.*UTF-8"),
        (b"", r"(?s)'inputs' is missing.*the file has no key at all"),
    ],
)
def test_what_is_no_toml_is_named(models, content, match):
    (models / "card.toml").write_bytes(content)
    with pytest.raises(CardError, match=match) as caught:
        read_card(models)
    assert str(models / "card.toml") in str(caught.value)


def test_an_absent_card_is_named(models):
    with pytest.raises(CardError, match=r"nowhere/card\.toml: the card cannot be read"):
        read_card(models / "nowhere")


def test_the_key_is_small_and_tells_models_apart(values):
    import pickle

    from dask.base import tokenize

    key = parse_card(values()).key()
    assert key == ModelKey("tiny", "1.0.0", key.sha256, "float32")
    assert len(pickle.dumps(key)) < 300
    assert pickle.loads(pickle.dumps(key)) == key  # noqa: S301 - our own bytes
    same = parse_card(values()).key()
    other = parse_card(values(content=b"other weights")).key()
    assert tokenize(key) == tokenize(same)
    assert tokenize(key) != tokenize(other)
    assert tokenize(key) != tokenize(parse_card(values()).key("float16"))


_texts = st.text(st.characters(codec="utf-8"), max_size=8)
_plain = (
    _texts
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([datetime.UTC, None]))
)
_toml = st.dictionaries(
    _texts,
    st.recursive(
        _plain,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=5,
)


@given(_toml)
def test_toml_reads_back_as_written(values):
    assert tomllib.loads(tables.dumps(values)) == values


def test_toml_has_no_form_for_some_values():
    with pytest.raises(TypeError, match="no form for None"):
        tables.dumps({"a": [None]})
    with pytest.raises(TypeError, match="A TOML key is a text, not 3"):
        tables.dumps({3: 1})


@pytest.fixture
def any_field(values):
    """Contents of a card whose network fills gaps in whatever it gets."""
    contents = values(capabilities=["infill"])
    for key in ("inputs", "levels", "time", "layers", "distance"):
        del contents[key]
    return {**contents, "normalization": {"kind": "none"}}


def test_a_network_that_fills_gaps_reads_anything(any_field):
    card_ = parse_card(any_field)
    assert card_.inputs == card_.levels == ()
    assert card_.infill == card.Infill(radius=64, factor=1.0)
    told = {"radius": 30, "factor": 1.2, "seen": {"kurtosis": [-1.0, 9.0]}}
    card_ = parse_card({**any_field, "infill": told})
    assert card_.infill == card.Infill(30, 1.2, {"kurtosis": (-1.0, 9.0)})
    again = parse_card(tomllib.loads(card_.to_toml()))
    assert again == card_


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("capabilities",), ["infill", "embed"], r"'inputs' is missing|'layers' is"),
        (("normalization", "kind"), "zscore", r"(?s)kind.*'none'"),
        (("grid", "halo"), "global", r"(?s)'grid'.*finite halo"),
        (("infill",), {"radius": 0}, r"'infill\.radius'"),
        (("infill",), {"factor": 0.0}, r"(?s)'infill\.factor'.*above 0"),
        (("infill",), {"radus": 3}, r"(?s)radus.*did you mean radius"),
        (("infill",), {"seen": {"x": [1.0]}}, r"(?s)infill\.seen\.x.*exactly 2"),
    ],
)
def test_a_card_without_inputs_is_checked(any_field, path, value, match):
    with pytest.raises(CardError, match=match):
        parse_card(changed(any_field, path, value))
