# Whether the given subnets are what the cache needs: of the VPC, private, each in a zone of its own.

locals {
  checked_subnets = var.create && var.check_subnets ? var.subnet_ids : []
}

data "aws_subnet" "given" {
  count = length(local.checked_subnets)

  id = local.checked_subnets[count.index]

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc_id
      error_message = "subnet_ids: ${self.id} is not in ${var.vpc_id}."
    }
  }
}

# The route table that a subnet names; none, if it goes by the VPC's main one.
data "aws_route_tables" "named" {
  count = length(local.checked_subnets)

  vpc_id = var.vpc_id

  filter {
    name   = "association.subnet-id"
    values = [local.checked_subnets[count.index]]
  }
}

# A subnet is private if nothing leads from it to an internet gateway. Whether it gives out public addresses says
# nothing: the cache takes none.
data "aws_route_table" "given" {
  count = length(local.checked_subnets)

  vpc_id = var.vpc_id

  filter {
    name   = length(data.aws_route_tables.named[count.index].ids) > 0 ? "association.subnet-id" : "association.main"
    values = [length(data.aws_route_tables.named[count.index].ids) > 0 ? local.checked_subnets[count.index] : "true"]
  }

  lifecycle {
    postcondition {
      condition     = !anytrue([for route in self.routes : startswith(coalesce(route.gateway_id, "none"), "igw-")])
      error_message = "subnet_ids: ${local.checked_subnets[count.index]} is not private: its route table ${self.id} leads to an internet gateway."
    }
  }
}
