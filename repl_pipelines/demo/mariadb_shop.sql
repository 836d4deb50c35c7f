-- The shop of shop.sql, in MariaDB: the same tables, with types of its own. {customers}, {products},
-- {orders} and {events} are sizes. Statements end with a semicolon at the end of a line.
create database shop;
create database billing;
use shop;
create table countries (
    code char(2) primary key, name varchar(40) not null, currency char(3) not null,
    vat_rate decimal(6,4) not null, population int unsigned, eu bool not null
) comment 'Where the shop sells, with tax rates.';
create table customers (
    id bigint unsigned primary key auto_increment, external_id uuid not null unique,
    email varchar(120) character set latin1 not null, name varchar(80) not null,
    tier enum('basic', 'silver', 'gold') not null default 'basic', country char(2) not null,
    address json not null, tags set('new', 'vip', 'b2b', 'returning', 'complained') not null default '',
    birthday date, last_ip inet6, newsletter bool, score double,
    created_at timestamp(6) not null default now(6),
    updated_at timestamp(6) not null default now(6) on update now(6), index (updated_at)
) comment 'Who buys.';
create table products (
    id bigint unsigned primary key auto_increment, sku char(14) not null, name text not null,
    price decimal(12,2) not null, vat_rate decimal(6,4) not null,
    price_with_vat decimal(18,6) as (price * (1 + vat_rate)) stored, stock int not null,
    weight float, attributes json not null, lead_time time not null, thumbnail blob, flags bit(8),
    since year not null, active bool not null default true,
    updated_at timestamp(6) not null default now(6) on update now(6), index (updated_at)
) comment 'What is sold; stock falls with each order and rises with a cancellation.';
create table orders (
    id bigint unsigned primary key auto_increment, customer_id bigint unsigned not null,
    status enum('placed', 'paid', 'shipped', 'delivered') not null default 'placed',
    total decimal(12,2) not null, currency char(3) not null default 'EUR', note text,
    deliver_on date, deliver_local datetime, placed_at timestamp(6) not null default now(6),
    updated_at timestamp(6) not null default now(6) on update now(6),
    index (updated_at), index (status), index (customer_id)
) comment 'One row an order; total is the sum of its lines.';
create table order_lines (
    order_id bigint unsigned not null, line_no smallint not null,
    product_id bigint unsigned not null, quantity int not null, unit_price decimal(12,2) not null,
    line_total decimal(14,2) as (quantity * unit_price) stored,
    updated_at timestamp(6) not null default now(6) on update now(6),
    primary key (order_id, line_no), index (updated_at)
) comment 'The lines of the orders, written in the transaction of their order.';
create table shipments (
    id uuid primary key default uuid(), order_id bigint unsigned not null, carrier varchar(20) not null,
    tracking char(32), transit time, pickup_time time,
    shipped_at timestamp(6) not null default now(6),
    updated_at timestamp(6) not null default now(6) on update now(6), index (order_id)
) comment 'What left the house.';
create table billing.payments (
    id uuid primary key default uuid(), order_id bigint unsigned not null,
    method enum('card', 'transfer', 'wallet') not null, amount decimal(12,2) not null,
    fee decimal(40,20) not null, fingerprint binary(32), paid_at timestamp(6) not null default now(6),
    updated_at timestamp(6) not null default now(6) on update now(6), index (order_id)
) comment 'Money received; exists for every order beyond "placed".';
create table billing.invoices (
    number varchar(20) primary key, order_id bigint unsigned not null, amount decimal(12,2) not null,
    issued_on date not null, due_local datetime(6) not null, document json,
    updated_at timestamp(6) not null default now(6) on update now(6), index (order_id)
) comment 'One invoice a paid order.';
create table audit_log (
    actor varchar(20) not null, action varchar(20) not null, detail text, logged_on date not null
) comment 'Who did what. No key, with equal rows.';
create table events (
    id bigint unsigned primary key auto_increment, occurred_at timestamp(6) not null default now(6),
    kind varchar(20) not null, customer_id bigint unsigned, session uuid, duration time(3),
    value double, payload json, index (occurred_at)
) comment 'What customers did.';
insert into countries values
    ('AT', 'Österreich', 'EUR', 0.20, 9158750, true), ('BE', 'België', 'EUR', 0.21, 11763650, true),
    ('CH', 'Schweiz', 'CHF', 0.081, 8962300, false), ('CZ', 'Česko', 'CZK', 0.21, 10900555, true),
    ('GR', 'Ελλάδα', 'EUR', 0.24, 10397193, true), ('IS', 'Ísland', 'ISK', 0.24, null, false),
    ('JP', '日本', 'JPY', 0.10, 123802000, false), ('UA', 'Україна', 'UAH', 0.20, null, false);
insert into customers (external_id, email, name, tier, country, address, tags, birthday, last_ip,
                       newsletter, score, created_at, updated_at)
select cast(insert(md5(concat('customer', seq)), 13, 1, '4') as uuid), concat('customer', seq, '@example.com'),
       concat(elt(1 + seq % 5, 'Ada', 'Björn', 'Dvořák', 'Ελένη', '花子'), ' ', seq),
       1 + seq div 3 % 3, elt(1 + seq % 8, 'AT', 'BE', 'CH', 'CZ', 'GR', 'IS', 'JP', 'UA'),
       json_object('street', concat('Street ', seq % 977), 'floor', nullif(seq % 9, 0)), seq % 8,
       if(seq % 5, date '1950-01-01' + interval seq % 20000 day, null),
       concat('2001:db8::', hex(seq % 65535)), elt(1 + seq % 3, true, false, null), sqrt(seq) / 3,
       now() - interval 1 + seq % 500 day, now() - interval 24 + seq % 40 hour
from seq_1_to_{customers};
insert into products (sku, name, price, vat_rate, stock, weight, attributes, lead_time, thumbnail,
                      flags, since, active, updated_at)
select concat('SKU-', seq), concat('Product ', seq, if(seq % 50, ' – ', ' ')),
       (199 + seq * 7919 % 49900) / 100, elt(1 + seq % 4, 0.19, 0.07, 0.2, 0.0550),
       100000 + seq % 1000, if(seq % 11, seq % 4000 / 7e0, null),
       json_object('colour', elt(1 + seq % 3, 'red', 'grün', '青'), 'size', seq % 60),
       sec_to_time(seq % 800 * 3600), if(seq % 3, null, unhex(repeat(md5(seq), 2 + seq % 12))),
       seq % 256, 1990 + seq % 30, seq % 20 > 0, now() - interval 24 + seq % 40 hour
from seq_1_to_{products};
insert into order_lines (order_id, line_no, product_id, quantity, unit_price, updated_at)
select o.seq, l.seq, p.id, 1 + (o.seq * 3 + l.seq) % 5, p.price,
       now() - interval 1 + o.seq % 1000 hour
from seq_1_to_{orders} o join seq_1_to_4 l on l.seq <= 1 + o.seq % 4
join products p on p.id = 1 + (o.seq * 31 + l.seq * 977) % {products};
insert into orders (id, customer_id, status, total, note, deliver_on, deliver_local, placed_at,
                    updated_at)
select order_id, 1 + order_id * 17 % {customers},
       elt(1 + order_id % 5, 'placed', 'paid', 'paid', 'shipped', 'delivered'), sum(line_total),
       elt(order_id % 7, '', 'leave at the door  ', 'two\nlines'),
       if(order_id % 3, current_date + interval order_id % 14 day, null),
       if(order_id % 3, current_date + interval order_id % 1440 minute, null),
       now() - interval 1 + order_id % 1000 hour, now() - interval 1 + order_id % 1000 hour
from order_lines group by order_id order by order_id;
insert into billing.payments (id, order_id, method, amount, fee, fingerprint, paid_at, updated_at)
select cast(insert(md5(concat('payment', id)), 13, 1, '4') as uuid), id, 1 + id % 3, total, total * 0.0137 / 3,
       if(id % 3, null, unhex(sha2(id, 256))), placed_at + interval 5 minute, updated_at
from orders where status <> 'placed';
insert into billing.invoices (number, order_id, amount, issued_on, due_local, document, updated_at)
select concat('INV-', lpad(id, 8, '0')), id, total, date(placed_at),
       timestamp(date(placed_at) + interval 14 day, '23:59:59.999999'),
       if(id % 4, json_object('total', total, 'lines', 1 + id % 4), null), updated_at
from orders where status <> 'placed';
insert into shipments (id, order_id, carrier, tracking, transit, pickup_time, shipped_at, updated_at)
select cast(insert(md5(concat('shipment', id)), 13, 1, '4') as uuid), id, elt(1 + id % 3, 'DHL', 'La Poste', 'PostNL'),
       if(id % 5, md5(concat('tracking', id)), null),
       if(status = 'delivered', sec_to_time(id % 100 * 4020), null), sec_to_time(28800 + id % 600 * 60),
       placed_at + interval 1 day, updated_at
from orders where status in ('shipped', 'delivered');
insert into audit_log
select concat('user', seq % 25), elt(1 + seq % 3, 'login', 'logout', 'export'),
       if(seq % 4 = 0, null, if(seq % 4 = 1, '', concat('detail ', seq % 50))),
       current_date - interval seq % 60 day
from seq_1_to_{events} where seq % 8 = 0;
insert into events (occurred_at, kind, customer_id, session, duration, value, payload)
select timestamp(current_date - interval 44 day + interval seq % 44 day)
           + interval seq * 7919 % 86400 second + interval seq % 1000 microsecond,
       elt(1 + seq % 4, 'page_viewed', 'product_viewed', 'cart_filled', 'searched'),
       if(seq % 5, 1 + seq % {customers}, null), cast(insert(md5(concat('session', seq div 7)), 13, 1, '4') as uuid),
       sec_to_time(seq % 5000 / 1000), ln(seq),
       if(seq % 10, json_object('path', concat('/p/', seq % 5000), 'n', seq), null)
from seq_1_to_{events};
