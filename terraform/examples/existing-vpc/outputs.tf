output "scrapy_settings" {
  description = "The lines to paste into settings.py."
  value       = module.dedup.scrapy_settings
}
