"""The procedures in torch: one file each; they speak of leaves by the names in the table, and of no technique."""
