output "scrapy_settings" {
  description = "The lines to paste into settings.py."
  value       = module.dedup.scrapy_settings
}

output "spider_subnet_id" {
  description = "Where to start instances for spiders."
  value       = aws_subnet.spiders.id
}

output "spider_security_group_id" {
  description = "The security group of the spiders."
  value       = aws_security_group.spiders.id
}

output "spider_instance_profile" {
  description = "The instance profile of the spiders."
  value       = aws_iam_instance_profile.spiders.name
}
