"""What runs, written anew from the tree, is what was written: the same values of the same types."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from raylake.layers.query import parse_query

UTC = dt.UTC
NOON = dt.datetime(2026, 1, 15, 12, 14, 15, 999_999, tzinfo=UTC)
TIMES = [NOON, dt.datetime(2024, 2, 29, 23, tzinfo=UTC), None, NOON.replace(month=12, day=31)]
ROWS = pa.table(
    {
        "i": pa.array([1, 2, None, 3], pa.int32()),
        "f": [1.25, -2.5, None, 3.0],
        "de": pa.array([Decimal("1.25"), Decimal("-2.35"), None, 3], pa.decimal128(18, 2)),
        "s": ["abc", "abbc", None, " aé "],
        "b": [True, False, None, True],
        "d": [None if one is None else one.date() for one in TIMES],
        "ts": pa.array(TIMES, pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us")),
        "tz": pa.array(TIMES, pa.timestamp("us", tz="UTC")),
        "l": pa.array([[1, 2, 3], [], None, [5]]),
        "st": pa.array([{"a": 1}, {"a": None}, None, {"a": 2}]),
        "j": ['{"x":1}', "{}", None, '{"x":"y"}'],
    }
)
EXPRESSIONS = r"""
date_trunc('month', d)
date_trunc('month', ts)
date_trunc('week', tz)
date_trunc('hour', ts)
date_trunc('day', d)
d::timestamp
tz::date
ts::date
date(tz)
year(tz)
month(d)
extract(dow from tz)
extract(isodow from tz)
dayofweek(tz)
isodow(tz)
weekofyear(tz)
week(d)
quarter(d)
dayname(d)
monthname(d)
last_day(d)
d + interval 1 day
d + 1
tz - interval '2 hours'
ts + interval (i) day
date_diff('day', d, date '2026-03-01')
datediff('hour', ts, timestamp '2026-03-01')
date_add(d, interval 1 month)
strftime(tz, '%Y-%m')
strftime(d, '%Y')
strptime('2026-01-02', '%Y-%m-%d')
epoch(tz)
epoch_ms(tz)
to_timestamp(i)
make_date(2026, 1, 2)
tz at time zone 'Europe/Oslo'
time_bucket(interval 15 minute, tz)
time_bucket(interval 1 hour, ts)
i / 2
i // 2
i % 3
-i % 3
i ** 2
i ^ 2
pow(i, 2)
round(f, 1)
round(de, 1)
ceil(f)
floor(f)
trunc(f)
abs(i)
sign(i)
sqrt(abs(f))
ln(abs(f)+1)
log(abs(f)+1)
log2(abs(f)+1)
log10(abs(f)+1)
exp(f)
greatest(i, 2)
least(i, 2, null)
coalesce(s, 'x')
nullif(i, 1)
ifnull(s, 'y')
concat(s, 'x', null)
concat_ws('-', s, 'x')
s || 'x'
upper(s)
lower(s)
trim(s)
ltrim(s)
rtrim(s)
trim(s, 'a')
length(s)
len(s)
substring(s, 1, 2)
substr(s, 2)
left(s, 2)
right(s, 2)
replace(s, 'a', 'b')
reverse(s)
split_part(s, 'b', 1)
string_split(s, 'b')
starts_with(s, 'a')
s ^@ 'a'
ends_with(s, 'c')
suffix(s,'c')
prefix(s,'a')
contains(s, 'b')
instr(s,'b')
strpos(s, 'b')
position('b' in s)
regexp_matches(s, 'b+')
regexp_extract(s, '(b)(c)', 1)
regexp_replace(s, 'b', 'x')
regexp_replace(s, 'b', 'x', 'g')
s like 'a%'
s ilike 'A%'
s not like 'a_'
s similar to 'a.*'
s ~ 'b'
md5(s)
sha256(s)
hex(s)
ascii(s)
chr(65)
unicode(s)
translate(s, 'ab', 'xy')
levenshtein(s, 'abd')
strip_accents(s)
i is distinct from 1
i between 1 and 2
i in (1, 2)
i not in (1,2)
case i when 1 then 'a' else 'b' end
case when i > 1 then 1 end
if(i > 1, 'a', 'b')
try_cast(s as int)
cast(f as decimal(10,2))
i::varchar
de::double
f::int
[1, 2, i]
{'a': i, 'b': s}
l[1]
l[1:2]
l[-1]
len(l)
list_contains(l, 2)
st.a
st['a']
j->>'$.x'
j->'$.x'
json_extract_string(j, '$.x')
i & 1
i | 1
xor(i, 1)
i << 1
~i
not b
b and i > 1
i is null
bit_count(i)
isnan(f)
isinf(f)
pi()
degrees(f)
radians(f)
sin(f)
atan2(f, 1)
cbrt(f)
@f
even(f)
century(d)
date_part('year', d)
date_part('epoch', tz)
strftime(tz, '%H:%M')
1.5
1e3
'x'
date '2026-01-01'
timestamptz '2026-01-01 00:00:00+02'
interval 1 day > interval 2 hour
hour(tz)
minute(ts)
second(ts)
to_days(3) > interval 1 day
quantile_cont(f, 0.5)
quantile_cont(i, 0.5)
quantile_disc(f, 0.9)
quantile(i, 0.5)
quantile_cont(tz, 0.5)
median(i)
median(tz)
median(d)
percentile_cont(0.3) within group (order by f)
percentile_disc(0.3) within group (order by i desc)
stddev(f)
stddev_pop(f)
stddev_samp(f)
var_samp(f)
var_pop(f)
variance(f)
corr(f, i)
covar_pop(f, i)
covar_samp(f,i)
skewness(f)
kurtosis(f)
bit_and(i)
bit_or(i)
bit_xor(i)
bool_and(b)
bool_or(b)
count_if(b)
sum(i)
sum(de)
avg(de)
avg(i)
min(s)
max(s)
max(l)
min(i, 2)
count(distinct s)
count(distinct (i, s))
approx_count_distinct(s)
list(s order by s)
array_agg(i order by i desc)
string_agg(s, ',' order by s)
group_concat(s, ',' order by s)
listagg(s, ',' order by s)
product(f)
geomean(abs(f))
mad(f)
entropy(s)
fsum(f)
favg(f)
sum(i) filter (where b)
count(*) filter (where i > 1)
count()
sum(distinct i)
max(de) - min(de)
sum(case when b then i else 0 end)
count(case when b then 1 end)
"""


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA silver")
        connection.register("given", ROWS)
        connection.execute("CREATE TABLE silver.t AS FROM given")
        yield connection


@pytest.mark.parametrize("expression", EXPRESSIONS.strip().splitlines())
def test_an_expression_that_is_let_through_means_what_it_says(
    expression: str, duck: duckdb.DuckDBPyConnection
) -> None:
    sql = f"SELECT {expression} AS x FROM silver.t"
    wanted = duck.sql(sql).to_arrow_table()
    found = duck.sql(parse_query(sql, ["silver.t"]).tree.sql("duckdb")).to_arrow_table()
    assert found.schema.equals(wanted.schema)
    assert repr(found.column("x").to_pylist()) == repr(wanted.column("x").to_pylist())
