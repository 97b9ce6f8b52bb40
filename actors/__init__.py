"""The processes of a run as Ray actors."""

from raylake.arrow import leave_pandas_out

leave_pandas_out()
