terraform {
  # What the tests run with. `terraform test` can mock a plan from 1.11 on.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Tested with 5.100.0; 6 was checked against its schema and its changelog: README.md, Versions.
      version = ">= 5.100, < 7"
    }
  }
}
