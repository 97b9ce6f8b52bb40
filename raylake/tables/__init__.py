"""Operations on Delta tables, the same for every engine: requests, the port, results, errors."""
