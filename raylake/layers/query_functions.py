"""What the SQL of a derived table may be made of, and why the rest of the language is refused.

The parts are named as sqlglot names its kinds of nodes. What is not listed is refused: a function
that a later DuckDB brings is no hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CLAUSES: Final = """
    select from where group having order ordered limit offset qualify join table tablealias subquery
    with cte union intersect except distinct alias column identifier star tuple paren rollup cube
    groupingsets window windowspec filter withingroup
"""
_VALUES: Final = """
    literal null boolean var datatype datatypeparam interval intervalspan cast trycast case if
    and or xor not eq neq gt gte lt lte is in between like ilike escape nullsafeeq nullsafeneq
    exists
    add sub mul div intdiv mod neg dpipe bracket slice propertyeq dot coalesce nullif greatest least
    bitwiseand bitwiseor bitwisexor bitwisenot bitwiseleftshift bitwiserightshift
    jsonextract jsonextractscalar jsonpath jsonpathroot jsonpathkey jsonpathsubscript
"""
_SCALARS: Final = """
    abs ceil floor round trunc sign sqrt cbrt exp ln log pow pi isnan isinf
    sin cos tan asin acos atan atan2 degrees radians
    lower upper trim length concat concatws substring left right replace reverse split splitpart
    startswith endswith contains strposition regexplike regexpextract regexpreplace similarto
    md5 sha2 levenshtein translate unicode chr ascii hex
    timestamptrunc datetrunc timetrunc extract year month day dayofweek dayofweekiso dayofmonth
    dayofyear week weekofyear quarter hour minute second date datediff dateadd datesub
    timestampdiff timestampadd timestampsub datefromparts timetostr strtotime strtodate
    timestrtotime tsordstodate tsordstotimestamp lastday datebin timetounix unixtotime dayname
    monthname todays attimezone arraysize arraycontains struct array
"""
_AGGREGATES: Final = """
    count countif sum avg min max median quantile percentilecont percentiledisc
    logicaland logicalor bitwiseandagg bitwiseoragg bitwisexoragg
    stddev stddevpop stddevsamp variance variancepop corr covarpop covarsamp skewness kurtosis
    approxdistinct arrayagg groupconcat
"""
_WINDOWS: Final = """
    rownumber rank denserank percentrank cumedist ntile lag lead firstvalue lastvalue nthvalue
"""

AGGREGATES: Final = frozenset(_AGGREGATES.split())
WINDOWS: Final = frozenset(_WINDOWS.split())
PARTS: Final = frozenset(f"{_CLAUSES} {_VALUES} {_SCALARS}".split()) | AGGREGATES | WINDOWS
"""The kinds of nodes that a query may hold."""

NAMED_AGGREGATES: Final = frozenset(
    [
        "product",
        "fsum",
        "favg",
        "sumkahan",
        "kahan_sum",
        "geomean",
        "geometric_mean",
        "mad",
        "entropy",
        "kurtosis_pop",
        "sem",
    ]
)
"""Aggregates that sqlglot has no kind for."""
NAMED_SCALARS: Final = frozenset(
    [
        "date_part",
        "datepart",
        "isodow",
        "isoyear",
        "yearweek",
        "century",
        "decade",
        "millennium",
        "era",
        "epoch_ms",
        "epoch_us",
        "epoch_ns",
        "isfinite",
        "even",
        "prefix",
        "suffix",
        "instr",
        "strip_accents",
        "bit_count",
        "nfc_normalize",
        "to_years",
        "to_months",
        "to_days",
        "to_hours",
        "to_minutes",
        "to_seconds",
        "make_timestamp",
    ]
)
"""Functions of a row that sqlglot has no kind for."""

NEEDS_ORDER: Final = frozenset({"arrayagg", "groupconcat"})
"""Aggregates whose value hangs on the order of rows, unless an ORDER BY gives one."""

_CLOCK: Final = (
    "a step that is run again must make the same rows: use a column of the source, such as its "
    "event time"
)
_CHANCE: Final = (
    "a step that is run again must make the same rows: make it of the source's columns, such as "
    "md5(key)"
)
_ORDER: Final = (
    "which row it takes hangs on the order of rows, which no table has: use min, max, or a window "
    "with ORDER BY"
)
_SESSION: Final = "it tells of the session, not of the rows"
_FILES: Final = "a derived table reads tables of the lake alone: layer.name"

UNSTEADY: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        [
            "now",
            "currenttimestamp",
            "currentdate",
            "currenttime",
            "currentdatetime",
            "localtime",
            "localtimestamp",
            "current_timestamp",
            "current_date",
            "current_time",
            "today",
            "transaction_timestamp",
            "statement_timestamp",
            "clock_timestamp",
            "get_current_timestamp",
            "get_current_time",
            "current_localtimestamp",
            "current_localtime",
            "currenttimestampltz",
            "age",
        ],
        _CLOCK,
    ),
    **dict.fromkeys(
        [
            "rand",
            "random",
            "randn",
            "setseed",
            "uuid",
            "gen_random_uuid",
            "uuidv4",
            "uuidv7",
            "nextval",
            "currval",
            "reservoir_quantile",
            "tablesample",
        ],
        _CHANCE,
    ),
    **dict.fromkeys(
        [
            "first",
            "last",
            "any_value",
            "anyvalue",
            "arbitrary",
            "argmax",
            "argmin",
            "arg_max",
            "arg_min",
            "max_by",
            "min_by",
            "mode",
            "approxquantile",
            "approx_quantile",
            "ignorenulls",
        ],
        _ORDER,
    ),
    **dict.fromkeys(
        [
            "currentuser",
            "sessionuser",
            "currentversion",
            "currentcatalog",
            "currentschema",
            "currentdatabase",
            "version",
            "current_setting",
            "getvariable",
            "getenv",
            "current_schemas",
            "current_query",
            "txid_current",
            "pg_typeof",
        ],
        _SESSION,
    ),
}
"""What makes other rows each time, with what to do instead."""

FOREIGN: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        [
            "readcsv",
            "readparquet",
            "read_csv",
            "read_csv_auto",
            "read_parquet",
            "parquet_scan",
            "read_json",
            "read_json_auto",
            "read_ndjson",
            "read_json_objects",
            "read_text",
            "read_blob",
            "glob",
            "sniff_csv",
            "parquet_metadata",
            "parquet_schema",
            "delta_scan",
            "iceberg_scan",
            "sqlite_scan",
            "postgres_scan",
            "mysql_scan",
            "postgres_query",
            "mysql_query",
            "query",
            "query_table",
            "st_read",
            "read_xlsx",
            "arrow_scan",
            "pandas_scan",
            "python_scan",
        ],
        _FILES,
    ),
}
"""What would reach files, other databases or other statements."""
