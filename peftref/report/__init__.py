"""What users read: tables, drawings and reports, from data that other parts give. No torch."""
