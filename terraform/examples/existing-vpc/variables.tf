variable "region" {
  description = "The region of the VPC."
  type        = string
  default     = "us-east-1"
}

variable "vpc_id" {
  description = "The VPC of the spiders."
  type        = string
}

variable "subnet_ids" {
  description = "Two or three private subnets, each in an availability zone of its own."
  type        = list(string)
}

variable "check_subnets" {
  description = "Ask AWS whether the subnets are private. Off only for a plan without credentials."
  type        = bool
  default     = true
}

variable "spider_security_group_id" {
  description = "The security group of the spiders."
  type        = string
}

variable "spider_role_name" {
  description = "The IAM role of the spiders."
  type        = string
}

variable "alarm_topic_arn" {
  description = "SNS topic that hears of alarms."
  type        = string
  default     = null
}
