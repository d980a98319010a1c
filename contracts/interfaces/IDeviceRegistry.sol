// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Devices (the views that UpdateLedger and UpdateOrders need; the whole interface follows)
interface IDeviceRegistry {
    function ownsBlocks(bytes16 site, uint256[] calldata words) external view returns (bool owned);

    function allows(
        bytes32 specHash,
        uint64 chain,
        address blockOta,
        bytes32 product
    ) external view returns (bool allowed);
}
