"""Prepares a lake of orders on a cluster, keeps what was rejected, and sends the rest.

spark-submit examples/spark/import_orders.py ORDERS.parquet ECOMMERCE_ORDER_PLACED OUT LEDGER

`RD_IMPORT_TOKEN` and the like stand in the driver's environment. Without LEDGER nothing is sent.
"""

import sys

from pyspark.sql import SparkSession

from rd_import import Account, Delivery
from rd_import.spark_stages import prepare, send


def main() -> None:
    """Do it."""
    source, event_type, out, *ledger = sys.argv[1:]
    spark = SparkSession.builder.appName("rd-import").getOrCreate()
    prepared = prepare(spark.read.parquet(source), event_type)
    prepared.table.persist()
    prepared.refuse_doubts()
    prepared.bodies.write.mode("overwrite").parquet(f"{out}/bodies")
    prepared.rejections.write.mode("overwrite").parquet(f"{out}/rejections")
    if ledger:
        delivery = Delivery(account=Account.from_env(), ledger=ledger[0])
        sent = send(prepared, delivery, senders=2)
        sent.write.mode("overwrite").parquet(f"{out}/sent")
    spark.stop()


if __name__ == "__main__":
    main()
